from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_align import losses

ONE_GROUP = torch.zeros(4, dtype=torch.int64)


def scores(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32)


@pytest.mark.parametrize(
    ("found", "scale", "expected"),
    [
        ((1, 0, 0, 1), "group", (0.8659, -0.8659, -0.8659, 0.8659)),
        ((1, 0, 0, 0), "group", (1.4997, -0.4999, -0.4999, -0.4999)),
        ((1, 0, 0, 0), "none", (0.75, -0.25, -0.25, -0.25)),
        ((3, 3, 3, 3), "group", (0, 0, 0, 0)),
        # Equal scores whose mean is rounded: 0.1 + 0.1 + 0.1 + … is not 4 * 0.1 in every order.
        ((0.1, 0.1, 0.1, 0.1), "group", (0, 0, 0, 0)),
    ],
)
def test_group_relative_advantages_by_hand(
    found: tuple[float, ...], scale: losses.ScaleRewards, expected: tuple[float, ...]
) -> None:
    advantages = losses.group_relative_advantages(scores(*found), ONE_GROUP, scale=scale)
    torch.testing.assert_close(advantages, scores(*expected), atol=5e-5, rtol=0)


def test_scaled_by_the_deviation_of_all_scores() -> None:
    found, groups = scores(1, 0, 5, 5), torch.tensor([3, 3, 7, 7])
    # Mean 2.75, unbiased variance (3.0625 + 7.5625 + 2 * 5.0625) / 3 = 6.91667
    expected = scores(0.5, -0.5, 0, 0) / (math.sqrt(6.9166667) + 1e-4)
    torch.testing.assert_close(
        losses.group_relative_advantages(found, groups, scale="batch"), expected, rtol=1e-5, atol=1e-6
    )


def test_leave_one_out_by_hand() -> None:
    found = losses.leave_one_out_advantages(scores(1, 0, 0, 0), ONE_GROUP)
    torch.testing.assert_close(found, scores(1, -1 / 3, -1 / 3, -1 / 3))
    assert losses.leave_one_out_advantages(scores(4.0), torch.tensor([0])).tolist() == [0]


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.floats(-5, 5, width=32)), min_size=1, max_size=12), st.randoms()
)
def test_answers_may_come_in_any_order(rows: list[tuple[int, float]], random) -> None:
    groups, found = torch.tensor([row[0] for row in rows]), torch.tensor([row[1] for row in rows])
    order = list(range(len(rows)))
    random.shuffle(order)
    for function in (losses.group_relative_advantages, losses.leave_one_out_advantages):
        whole = function(found, groups)
        torch.testing.assert_close(function(found[order], groups[order]), whole[order], atol=1e-4, rtol=1e-3)
        for group in set(groups.tolist()):
            mine = groups == group
            assert abs(float(whole[mine].sum())) < 1e-3


def test_returns_by_hand() -> None:
    rewards = torch.tensor([[1.0, 2.0, 4.0], [1.0, 1.0, math.nan]])
    mask = torch.tensor([[1, 1, 1], [1, 1, 0]])
    found = losses.discounted_returns(rewards, mask, gamma=0.5)
    torch.testing.assert_close(found, torch.tensor([[3.0, 4.0, 4.0], [1.5, 1.0, 0.0]]))


RATIOS = torch.tensor([[1.5, 1.0, 0.0, 0.0], [0.5, 1.0, 1.0, 1.0]])
MASK = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1]])
ADVANTAGES = torch.tensor([[1.0], [-1.0]]).expand(2, 4)


@pytest.mark.parametrize(
    ("loss_type", "high", "expected"),
    [
        ("grpo", None, -0.0750),
        ("dapo", None, 0.26667),
        ("bnpo", None, 0.26667),
        ("dr_grpo", None, 0.1000),
        ("grpo", 0.28, -0.0950),
        ("dapo", 0.28, 0.25333),
        ("dr_grpo", 0.28, 0.0950),
    ],
)
def test_a_step_of_two_answers_by_hand(
    loss_type: losses.LossType, high: float | None, expected: float
) -> None:
    logps = torch.where(MASK.bool(), RATIOS.clamp(min=1e-9).log(), 0.0)
    of_tokens = losses.policy_loss(
        logps, torch.zeros_like(logps), ADVANTAGES, clip_range=0.2, clip_range_high=high
    )
    weighted = (losses.loss_weights(MASK, loss_type, max_length=8) * of_tokens).sum()
    units = len(MASK) if losses.counts_answers(loss_type) else MASK.sum()
    assert float(weighted / units) == pytest.approx(expected, abs=5e-6)


def test_ratios_of_sequences_by_hand() -> None:
    """Two answers whose mean log-ratios are -0.1 and 0.1."""
    lengths = torch.tensor([2, 4])
    log_ratios = torch.tensor([-0.3, 0.1, 0.4, 0.0, 0.2, -0.2])
    mean = losses.answer_log_ratios(log_ratios, lengths, reduction="mean").exp()
    torch.testing.assert_close(mean, scores(*[0.90484] * 2, *[1.10517] * 4), atol=5e-6, rtol=0)
    summed = losses.answer_log_ratios(log_ratios, lengths, reduction="sum")
    torch.testing.assert_close(summed, scores(*[-0.2] * 2, *[0.4] * 4))
    with pytest.raises(ValueError, match="add up to 5, expected 6"):
        losses.answer_sums(log_ratios, torch.tensor([2, 3]))


def test_the_gradient_reaches_every_token_of_a_sequence_alike() -> None:
    logps = torch.zeros(3, requires_grad=True)
    ratios = losses.answer_log_ratios(logps, torch.tensor([2, 1]), reduction="mean").exp()
    (ratios * torch.tensor([1.0, 3.0, 5.0])).sum().backward()
    torch.testing.assert_close(logps.grad, scores(2.0, 2.0, 5.0))


def test_the_soft_overlong_penalty_of_dapo() -> None:
    lengths = torch.tensor([1, 16384, 18432, 20480, 30000])
    found = losses.overlong_penalty(lengths, max_length=20480, cache=4096)
    torch.testing.assert_close(found, scores(0, 0, -0.5, -1, -1))
    with pytest.raises(ValueError, match="cache: found 0"):
        losses.overlong_penalty(lengths, max_length=8, cache=0)


@pytest.mark.parametrize("advantage", [1.0, -2.0])
def test_where_the_policy_is_the_one_that_sampled_every_loss_has_the_gradient_of_reinforce(
    advantage: float,
) -> None:
    old = torch.log(torch.tensor([[0.5, 0.1, 0.7]]))
    advantages = torch.full_like(old, advantage)

    def gradient(of: str) -> torch.Tensor:
        logps = old.clone().requires_grad_()
        if of == "clipped":
            found = losses.policy_loss(logps, old, advantages, clip_range=0.2, clip_range_high=0.28)
        elif of == "cispo":
            ratios = losses.probability_ratio(logps, old)
            found = losses.cispo_loss(logps, ratios, advantages, ratio_max=5.0)
        elif of == "sequence":
            lengths = torch.tensor([3])
            shared = losses.answer_log_ratios((logps - old)[0], lengths, reduction="mean")
            found = losses.policy_loss(
                shared, torch.zeros(3), advantages[0], clip_range=3e-4, clip_range_high=4e-4
            )
        else:
            found = losses.reinforce_loss(logps, advantages)
        found.sum().backward()
        assert logps.grad is not None
        return logps.grad

    for other in ("clipped", "cispo", "sequence"):
        torch.testing.assert_close(gradient(other), gradient("reinforce"), msg=other)


def test_cispo_keeps_the_gradient_of_tokens_beyond_the_limit() -> None:
    logps = torch.log(torch.tensor([0.9, 0.2])).requires_grad_()
    ratios = losses.probability_ratio(logps, torch.log(torch.tensor([0.1, 0.2])))
    losses.cispo_loss(logps, ratios, torch.tensor([1.0, 1.0]), ratio_max=5.0).sum().backward()
    torch.testing.assert_close(logps.grad, scores(-5.0, -1.0))


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="scale: found 'all'"):
        losses.group_relative_advantages(scores(1, 2), torch.tensor([0, 0]), scale="all")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="loss_type: found 'ppo'"):
        losses.loss_weights(MASK, "ppo", max_length=8)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="one shape"):
        losses.group_means(scores(1, 2), torch.tensor([0]))
