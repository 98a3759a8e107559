from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_align.losses import generalized_advantage_estimation as gae


def test_by_hand() -> None:
    # deltas, from the end: 3 - 1 = 2;  2 + 0.5 * 1 - 4 = -1.5;  1 + 0.5 * 4 - 2 = 1
    # advantages: 2;  -1.5 + 0.5 * 0.8 * 2 = -0.7;  1 + 0.4 * -0.7 = 0.72
    advantages, returns = gae(
        torch.tensor([[1.0, 2.0, 3.0]]),
        torch.tensor([[2.0, 4.0, 1.0]]),
        torch.ones(1, 3),
        gamma=0.5,
        lam=0.8,
    )
    torch.testing.assert_close(advantages, torch.tensor([[0.72, -0.7, 2.0]]))
    torch.testing.assert_close(returns, torch.tensor([[2.72, 3.3, 3.0]]))


def test_what_stands_behind_a_response_is_never_seen() -> None:
    rewards = torch.tensor([[1.0, 2.0, math.nan, 9.0], [0.0, math.inf, 5.0, 1.0]])
    values = torch.tensor([[0.5, 0.25, math.inf, 9.0], [math.nan, 7.0, 1.0, 2.0]])
    mask = torch.tensor([[1, 1, 0, 0], [0, 0, 1, 1]])
    advantages, returns = gae(rewards, values, mask, gamma=0.9, lam=0.7)
    for row, columns in ((0, slice(0, 2)), (1, slice(2, 4))):
        alone = gae(
            rewards[row : row + 1, columns],
            values[row : row + 1, columns],
            torch.ones(1, 2),
            gamma=0.9,
            lam=0.7,
        )
        torch.testing.assert_close(advantages[row, columns], alone[0][0])
        torch.testing.assert_close(returns[row, columns], alone[1][0])
    assert advantages[~mask.bool()].abs().max() == 0 == returns[~mask.bool()].abs().max()


rows = st.lists(st.tuples(st.floats(-5, 5, width=32), st.floats(-5, 5, width=32)), min_size=1, max_size=6)


@settings(deadline=None, max_examples=50)
@given(rows, st.floats(0, 1, width=32))
def test_with_lambda_one_returns_are_the_discounted_rewards_to_come(pairs, gamma: float) -> None:
    rewards, values = (torch.tensor([column], dtype=torch.float64) for column in zip(*pairs, strict=True))
    _, returns = gae(rewards, values, torch.ones_like(rewards), gamma=gamma, lam=1.0)
    expected = [
        sum(gamma ** (k - t) * rewards[0, k].item() for k in range(t, len(pairs))) for t in range(len(pairs))
    ]
    torch.testing.assert_close(returns[0], torch.tensor(expected, dtype=torch.float64), rtol=1e-4, atol=1e-4)


@settings(deadline=None, max_examples=50)
@given(rows, st.floats(0, 1, width=32))
def test_with_lambda_zero_advantages_are_one_step_errors(pairs, gamma: float) -> None:
    rewards, values = (torch.tensor([column], dtype=torch.float64) for column in zip(*pairs, strict=True))
    advantages, _ = gae(rewards, values, torch.ones_like(rewards), gamma=gamma, lam=0.0)
    following = torch.cat([values[0, 1:], torch.zeros(1, dtype=torch.float64)])
    torch.testing.assert_close(advantages[0], rewards[0] + gamma * following - values[0])


def test_no_gradient_flows_and_bad_options_are_refused() -> None:
    values = torch.ones(1, 2, requires_grad=True)
    advantages, returns = gae(torch.ones(1, 2), values, torch.ones(1, 2), gamma=1.0, lam=0.95)
    assert not advantages.requires_grad and not returns.requires_grad
    with pytest.raises(ValueError, match="gamma"):
        gae(torch.ones(1, 2), values, torch.ones(1, 2), gamma=1.5, lam=0.95)
    with pytest.raises(ValueError, match="one shape"):
        gae(torch.ones(1, 2), values, torch.ones(1, 3), gamma=1.0, lam=0.95)
