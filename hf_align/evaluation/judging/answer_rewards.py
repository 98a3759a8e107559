"""What rewards give for the answers of every model to generation tasks, with intervals.

The rewards are those of the stages that learn from them. Which of two models a reward prefers is in
``answer_comparison``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hf_align.evaluation.answering import Reply
from hf_align.evaluation.measured import Evaluation
from hf_align.evaluation.recipe import EvaluateConfig
from hf_align.rewards.models import Rewards, Scored, load_rewards
from hf_align.rewards.recipe import RewardsConfig
from hf_align.statistics.bootstrap import mean_and_interval


def score_answers(config: EvaluateConfig, evaluation: Evaluation, *, use_cpu: bool) -> None:
    """Add the mean of every reward of ``config`` for each generation task and model.

    Raises UserError for a reward that cannot be loaded, and where a function of the user fails.
    """
    options, seed = config.preferences, config.evaluation.seed
    if not options.reward_functions and not options.reward_model:
        return
    wanted = RewardsConfig(
        reward_model=options.reward_model,
        reward_functions=options.reward_functions,
        reward_options=options.reward_options,
    )
    rewards = load_rewards(wanted, use_cpu=use_cpu, max_tokens=config.evaluation.max_tokens_per_batch)
    for task, by_model in evaluation.replies.items():
        for model, replies in by_model.items():
            parts = scored_replies(rewards, replies).parts
            evaluation.scores[task, model] = {
                name: [float(value) for value in values] for name, values in parts.items()
            }
            for name, values in parts.items():
                mean, interval = mean_and_interval(values, seed=seed)
                metrics = {
                    "rows": len(values),
                    "reward": mean,
                    "reward_interval": interval and list(interval),
                }
                items = np.stack([values, np.ones(len(values))], axis=1)
                evaluation.add("reward", f"{task}, by {name}", model, metrics, items)


def scored_replies(rewards: Rewards, replies: Sequence[Reply]) -> Scored:
    """What ``rewards`` give for the answers that count, in the order of the replies."""
    prompts = [reply.asked.prompt for reply in replies]
    return rewards.score(
        [prompt.text for prompt in prompts],
        [reply.answer for reply in replies],
        [prompt.row for prompt in prompts],
        [prompt.example for prompt in prompts],
    )
