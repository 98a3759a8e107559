"""One token, a reward and a KL penalty: every algorithm comes to the optimum that theory gives.

The best policy is pi*(a) ~ pi_ref(a) exp(r(a) / beta) (Rafailov et al. 2023, arXiv 2305.18290, equation 4).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from helpers.ppo_parts import models, options, prompts, rollout_tools, update_tools

from hf_align.rl.advantages import make_experience
from hf_align.rl.episodes import trees_of, update_rows
from hf_align.rl.models import PpoModels
from hf_align.rl.rollout import measure_episodes, sample_episodes
from hf_align.rl.update import update

BETA = 0.5
ASKED = prompts([5, 5])
SETTINGS = {
    "rollout_batch_size": 2,
    "max_new_tokens": 1,
    "whiten_advantages": False,
    "vf_coef": 0.5,
    # Values have to follow the returns within a few steps here.
    "clip_range_value": 10.0,
}


def probabilities(model: torch.nn.Module) -> torch.Tensor:
    """(prompts, V): of the first token of an answer."""
    with torch.no_grad():
        ids = torch.tensor([prompt.ids for _, prompt in ASKED])
        return torch.softmax(model(ids).logits[:, -1].double(), dim=-1)


def even(found: torch.Tensor) -> list[float]:
    """The probability of a token with an even id, for each prompt."""
    return found[:, ::2].sum(dim=1).tolist()


def iterate(found: PpoModels, rollouts: int, settings: dict[str, Any], *, rate: float, steps: int) -> None:
    tools = rollout_tools(found, **settings)
    updating = update_tools(found, **settings)
    optimizer = torch.optim.Adam(found.module.parameters(), lr=rate)
    scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, total_iters=steps * rollouts)
    object.__setattr__(updating, "optimizer", optimizer)
    object.__setattr__(updating, "scheduler", scheduler)
    for number in range(rollouts):
        episodes = sample_episodes(tools, ASKED, samples=64, seed=(0, number))
        trees = trees_of(ASKED, episodes)
        measure_episodes(tools, trees)
        scores = np.array([float(one.tokens[0] % 2 == 0) for one in episodes])
        found_now = make_experience(episodes, scores, options(**settings), kl_coef=BETA)
        update(
            updating,
            update_rows(trees, episodes, found_now.columns),
            prompts=len(ASKED),
            seed=(1, number),
            check_first=lambda metrics: None,
            check_step=lambda metrics: None,
        )


SHARED = {"rollout_batch_size": 2, "max_completion_length": 1, "num_generations": 64, "beta": BETA}
KINDS: dict[str, tuple[dict[str, Any], float, int]] = {
    "ppo": (SETTINGS, 0.002, 4),
    # With the ratio in the KL penalty its gradient is that of the divergence, without it another.
    "grpo": ({**SHARED, "algorithm": "grpo", "scale_rewards": "none", "num_iterations": 4}, 0.002, 4),
    "grpo by answers": (
        {
            **SHARED,
            "algorithm": "grpo",
            "scale_rewards": "none",
            "loss_type": "grpo",
            "importance_sampling_level": "sequence",
            "num_iterations": 4,
        },
        0.002,
        4,
    ),
    "rloo": ({**SHARED, "algorithm": "rloo", "num_iterations": 4}, 0.002, 4),
    "reinforce": ({**SHARED, "algorithm": "reinforce"}, 0.004, 1),
    "reinforce with a baseline": ({**SHARED, "algorithm": "reinforce", "baseline": "group"}, 0.004, 1),
    "reinforce_pp": ({**SHARED, "algorithm": "reinforce_pp", "num_iterations": 4}, 0.002, 4),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_optimum_is_reached(kind: str) -> None:
    settings, rate, steps = KINDS[kind]
    # Padded, which is faster for many answers of one token.
    found = models(packed=False, values=kind == "ppo")
    start = even(probabilities(found.reference))
    lift = math.exp(1 / BETA)
    best = [p * lift / (1 - p + p * lift) for p in start]
    assert all(0.2 < p < 0.8 for p in start) and all(b > p + 0.1 for b, p in zip(best, start, strict=True))
    iterate(found, 60, settings, rate=rate, steps=steps)
    reached = even(probabilities(found.policy))
    for ours, theirs, before in zip(reached, best, start, strict=True):
        assert abs(ours - theirs) < 0.06, (before, ours, theirs)
