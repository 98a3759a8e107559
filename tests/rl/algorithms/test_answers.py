"""Algorithms without values: advantages and metrics by hand, and updates that must come to the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from helpers.ppo_parts import answers, models, options, prompts, rollout_tools, update_tools

from hf_align.losses import kl_estimate
from hf_align.rl.advantages import make_experience
from hf_align.rl.algorithms.answers import WEIGHTS
from hf_align.rl.algorithms.base import Advantages, ScoredRollout
from hf_align.rl.algorithms.table import ALGORITHMS
from hf_align.rl.episodes import EpisodeRow, answer_tree, trees_of, update_rows
from hf_align.rl.rollout import measure_episodes
from hf_align.rl.update import update

ASKED = prompts([7, 4, 9, 5])
LENGTHS = [[3, 1, 2], [4, 2, 2], [2, 6, 3], [5, 5, 1]]

MASK = torch.tensor([[1, 1, 1], [1, 0, 0], [1, 1, 0], [1, 1, 0]]).bool()
"""Four answers to two prompts; the third was cut off."""


def rollout(kind: str) -> ScoredRollout:
    logps = torch.where(MASK, torch.tensor([-1.0, -2.0, -3.0]), 0.0)
    reference = torch.where(MASK, logps - torch.tensor([[0.1], [0.2], [0.3], [0.4]]), 0.0)
    return ScoredRollout(
        prompts=torch.tensor([0, 0, 1, 1]),
        scores=torch.tensor([1.0, 0.0, 2.0, 2.0]),
        stopped=torch.tensor([True, True, False, True]),
        mask=MASK,
        logps=logps,
        reference_logps=reference,
        kl=kl_estimate(logps, reference, kind=kind),
        values=torch.zeros_like(logps),
        kl_coef=0.5,
    )


def found(**given: Any) -> Advantages:
    chosen = options(**{"num_generations": 2, **given})
    return ALGORITHMS[chosen.algorithm].advantages(rollout(chosen.kl_estimator), chosen)


def test_the_kl_penalty_of_rloo_is_in_the_score() -> None:
    # Scores less 0.5 times the KL: 1 - 0.15, 0 - 0.1, 2 - 0.3, 2 - 0.4; each against the other one.
    expected = torch.tensor([[0.95], [-0.95], [0.1], [-0.1]])
    columns = found(algorithm="rloo").columns
    torch.testing.assert_close(columns["advantages"], torch.where(MASK, expected, 0.0))
    torch.testing.assert_close(columns[WEIGHTS].sum(dim=1), torch.ones(4))


def test_the_kl_penalty_of_reinforce_is_in_the_reward_of_each_token() -> None:
    columns = found(algorithm="reinforce", baseline="batch", gamma=0.5).columns
    # Baseline 1.25. From the end: -0.25 - 0.05; -0.05 + 0.5 * -0.3; -0.05 + 0.5 * -0.2.
    torch.testing.assert_close(columns["advantages"][0], torch.tensor([-0.15, -0.2, -0.3]))
    torch.testing.assert_close(columns["advantages"][1], torch.tensor([-1.25 - 0.1, 0.0, 0.0]))


def test_advantages_of_reinforce_pp_have_variance_one_over_tokens() -> None:
    advantages = found(algorithm="reinforce_pp", baseline="group").columns["advantages"][MASK]
    assert float(advantages.mean()) == pytest.approx(0, abs=1e-6)
    assert float(advantages.var(correction=0)) == pytest.approx(1, rel=1e-4)


def test_metrics_of_groups_by_hand() -> None:
    metrics = found(algorithm="grpo").metrics
    assert metrics["frac_reward_zero_std"] == 0.5
    assert metrics["group_score_std"] == pytest.approx(0.5**0.5 / 2)
    lengths, scores = np.array([3, 1, 2, 2]), np.array([1, 0, 2, 2])
    assert metrics["length_score_correlation"] == pytest.approx(np.corrcoef(lengths, scores)[0, 1])
    assert "frac_reward_zero_std" not in found(algorithm="reinforce", num_generations=1).metrics


def test_an_answer_that_was_cut_off_may_be_left_out() -> None:
    given = {"algorithm": "grpo", "mask_truncated_completions": True}
    masked, whole = found(**given), found(algorithm="grpo")
    assert masked.columns[WEIGHTS].sum(dim=1).tolist() == [3, 1, 0, 2]
    # Its score still counts in its group.
    torch.testing.assert_close(masked.columns["advantages"], whole.columns["advantages"])
    assert masked.metrics["masked_answers"] == 0.25
    tree = answer_tree([1, 2], [np.arange(2), np.arange(2)])
    row = EpisodeRow(tree, {WEIGHTS: masked.columns[WEIGHTS][2:, :2].flatten().numpy()})
    for loss_type, units in (("dapo", 2), ("grpo", 2), ("dr_grpo", 2)):
        chosen = options(**given, num_generations=2, loss_type=loss_type)
        assert ALGORITHMS["grpo"].objective(chosen).units(row) == units, loss_type


def updated(order: list[int] | None = None, **given: Any) -> dict[str, torch.Tensor]:
    """The weights after one step on fixed answers; ``order``: of the answers of every prompt."""
    policy = models(values=False)
    chosen = options(**{"num_generations": 3, **given})
    episodes = answers(LENGTHS)
    if order is not None:
        episodes = [episodes[3 * prompt + place] for prompt in range(4) for place in order]
    trees = trees_of(ASKED, episodes)
    measure_episodes(rollout_tools(policy), trees)
    scores = np.array([one.reward for one in episodes])
    columns = make_experience(episodes, scores, chosen, kl_coef=chosen.kl_coef).columns
    metrics = update(
        update_tools(policy, **{"num_generations": 3, **given}),
        update_rows(trees, episodes, columns),
        prompts=4,
        seed=(0,),
        check_first=lambda logged: None,
        check_step=lambda logged: None,
    )
    assert metrics["grad_norm"] > 1e-3
    return {name: one.detach().clone() for name, one in policy.module.named_parameters()}


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    for name, values in one.items():
        torch.testing.assert_close(values, other[name], rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize("loss_type", ["dapo", "grpo", "dr_grpo"])
def test_where_the_policy_is_the_one_that_sampled_grpo_is_reinforce_with_a_baseline(loss_type: str) -> None:
    same = {"beta": 0.0, "loss_type": loss_type}
    grpo = updated(algorithm="grpo", scale_rewards="none", epsilon=1e-3, **same)
    assert_same(grpo, updated(algorithm="reinforce", baseline="group", **same))


@pytest.mark.parametrize(
    "given",
    [
        {"algorithm": "grpo", "beta": 0.1},
        {"algorithm": "grpo", "importance_sampling_level": "sequence", "loss_type": "grpo"},
        {"algorithm": "rloo"},
        {"algorithm": "reinforce_pp", "baseline": "group"},
    ],
    ids=lambda given: "-".join(map(str, given.values())),
)
def test_the_order_of_the_answers_to_a_prompt_means_nothing(given: dict[str, Any]) -> None:
    assert_same(updated(**given), updated([2, 0, 1], **given))
