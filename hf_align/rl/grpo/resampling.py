"""Dynamic sampling: groups of answers that all have the same reward teach nothing, and are drawn again.

Source: DAPO, Yu et al. 2025, arXiv 2503.14476, section 3.2, which takes other prompts in their place; here
the same prompts are asked again, a bounded number of times, so that a rollout has the prompts of its recipe.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from hf_align.losses import equal_scores
from hf_align.rl.advantages import shaped_rewards
from hf_align.rl.rollout import RolloutTools, sample_episodes, score_episodes
from hf_align.training.step import sum_over_processes

if TYPE_CHECKING:
    from hf_align.data.chat.prompts import Prompt
    from hf_align.rl.episodes import Episode
    from hf_align.rl.grpo.recipe import GrpoConfig

Asked = Sequence[tuple[int, "Prompt"]]


def equal_groups(episodes: Sequence[Episode], config: GrpoConfig) -> set[int]:
    """The numbers of the prompts whose answers all have the same reward after penalties."""
    if not episodes:
        return set()
    rewards = torch.from_numpy(
        shaped_rewards(episodes, config.grpo, missing_eos_penalty=config.rewards.missing_eos_penalty)
    )
    equal = equal_scores(rewards, torch.tensor([one.prompt for one in episodes])).tolist()
    return {one.prompt for one, same in zip(episodes, equal, strict=True) if same}


def redraw_equal_groups(
    tools: RolloutTools,
    config: GrpoConfig,
    asked: Asked,
    mine: list[Episode],
    *,
    seed: tuple[int, ...],
) -> tuple[list[Episode], dict[str, float]]:
    """(this process's episodes, ordered by prompt, and what is logged, over all processes).

    ``asked``: this process's prompts, ``mine``: scored answers to them, drawn with ``seed``. Every process
    has to call this. Logged: ``resampled_groups``, how often a group was drawn again, and
    ``equal_groups``, those that are still equal.
    """
    options = config.grpo
    drawn = 0.0
    for attempt in range(1, options.max_resamples + 1):
        numbers = equal_groups(mine, config)
        waiting = _sum(len(numbers), tools)
        if not waiting:
            break
        drawn += waiting
        again = [(number, prompt) for number, prompt in asked if number in numbers]
        # Processes without such groups come along: a server takes the weights from all of them.
        fresh = sample_episodes(tools, again, samples=options.num_generations, seed=(*seed, attempt))
        score_episodes(tools, again, fresh)
        kept = [one for one in mine if one.prompt not in numbers]
        mine = sorted([*kept, *fresh], key=lambda one: one.prompt)
    left = _sum(len(equal_groups(mine, config)), tools)
    return mine, {"resampled_groups": drawn, "equal_groups": left}


def _sum(count: int, tools: RolloutTools) -> float:
    return sum_over_processes(torch.tensor([float(count)]), tools.accelerator)[0]
