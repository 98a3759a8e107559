"""Updates of a tiny policy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from helpers.ppo_parts import answers, options, prompts, rollout_tools, update_tools

from hf_align.rl import checks as ppo_checks
from hf_align.rl.advantages import make_experience
from hf_align.rl.episodes import trees_of, update_rows
from hf_align.rl.models import PpoModels
from hf_align.rl.rollout import measure_episodes
from hf_align.rl.update import Numbered, update

ASKED = prompts([7, 4, 9, 5])

LENGTHS = [[3, 1], [4, 2], [2, 6], [5, 5]]


def measured(found: PpoModels, **given: Any) -> list[Numbered]:
    """The rows of an update on fixed answers."""
    episodes = answers(LENGTHS)
    trees = trees_of(ASKED, episodes)
    measure_episodes(rollout_tools(found), trees)
    scores = np.array([one.reward for one in episodes])
    estimates = make_experience(episodes, scores, options(**given), kl_coef=0.05)
    return update_rows(trees, episodes, estimates.columns)


def run(found: PpoModels, rows: list[Numbered], *, seed: int = 0, **given: Any) -> dict[str, float]:
    tools = update_tools(found, **given)
    precise = {"check_first": _first, "check_step": lambda metrics: ppo_checks.check_finite(metrics, 1)}
    return update(tools, rows, prompts=len(ASKED), seed=(seed,), **precise)


def _first(metrics: Mapping[str, float]) -> None:
    ppo_checks.check_first_pass(metrics, "fp32")


def weights(found: PpoModels) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in found.module.named_parameters()}
