"""The answers of several models to the same prompts, compared with those of the first by reward or judge.

What a comparison comes to is in ``win_rate``, what asks a judge in ``judge``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath
from typing import Any

from hf_align.data.chat.prompts import prompt_turns
from hf_align.evaluation.answering import Asked, Reply
from hf_align.evaluation.judging.answer_rewards import scored_replies
from hf_align.evaluation.judging.judge import Judge
from hf_align.evaluation.judging.win_rate import Outcomes, by_scores, by_verdicts, win_metrics
from hf_align.evaluation.measured import Evaluation, bar
from hf_align.evaluation.recipe import EvaluateConfig
from hf_align.rewards.models import load_rewards
from hf_align.rewards.recipe import RewardsConfig


def compare_answers(config: EvaluateConfig, evaluation: Evaluation, *, use_cpu: bool) -> None:
    """Add the win rates of all models but the first, for each generation task and judge of ``config``.

    Raises UserError where a reward model cannot be loaded or a judge cannot be asked.
    """
    options, seed = config.preferences, config.evaluation.seed
    if options.judge_reward_model is not None:
        path = options.judge_reward_model
        rewards = load_rewards(RewardsConfig(reward_model=[path]), use_cpu=use_cpu)
        for task, by_model in evaluation.replies.items():
            scores = {
                name: [float(score) for score in scored_replies(rewards, replies).total]
                for name, replies in by_model.items()
            }
            first, *others = by_model
            for name in others:
                metrics = win_metrics(by_scores(scores[name], scores[first]), seed=seed)
                metrics["mean_reward"] = sum(scores[name]) / len(scores[name])
                metrics["mean_reward_of_first"] = sum(scores[first]) / len(scores[first])
                evaluation.add("win_rate", f"{task}, by {PurePath(path).name}", name, metrics, None)
    if options.judge_url is not None and options.judge_model is not None:
        judge = Judge(
            options.judge_url,
            options.judge_model,
            options.judge_requests,
            parameters=options.judge_parameters,
            temperature=options.judge_temperature,
        )
        for task, by_model in evaluation.replies.items():
            first, *others = by_model
            for name in others:
                with bar(f"{options.judge_model}: {task}", "verdict", 2 * len(by_model[name])) as advance:
                    outcomes, reliability = judged(judge, by_model[name], by_model[first], advance)
                metrics = {**win_metrics(outcomes, seed=seed), **reliability}
                evaluation.add("win_rate", f"{task}, by {options.judge_model}", name, metrics, None)


def judged(
    judge: Judge, ours: Sequence[Reply], theirs: Sequence[Reply], progress: Any = None
) -> tuple[Outcomes, dict[str, float | None]]:
    """Each pair of answers put to the judge in both orders; see ``win_rate.by_verdicts``."""
    requests = [request_text(reply.asked) for reply in ours]
    answers = [(mine.answer, other.answer) for mine, other in zip(ours, theirs, strict=True)]
    forward = [(request, mine, other) for request, (mine, other) in zip(requests, answers, strict=True)]
    backward = [(request, other, mine) for request, mine, other in forward]
    verdicts = judge.compare([*forward, *backward], progress)
    return by_verdicts(verdicts[: len(forward)], verdicts[len(forward) :])


def request_text(asked: Asked) -> str:
    """What was asked, in words: the prompt, or the turns of the conversation with who said them."""
    example = asked.prompt.example
    if example.messages is None:
        return example.prompt or ""
    turns = prompt_turns(example)
    if len(turns) == 1:
        return turns[0].content
    return "\n\n".join(f"{turn.role}: {turn.content}" for turn in turns)
