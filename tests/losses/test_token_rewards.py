"""Rewards of tokens and explained variance, against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from hf_align.losses.token_rewards import explained_variance, token_rewards


def test_by_hand() -> None:
    # Two answers of 3 and 1 tokens; what stands behind the second must not matter.
    kl = torch.tensor([[0.5, -1.0, 2.0], [3.0, math.nan, 7.0]])
    mask = torch.tensor([[1, 1, 1], [1, 0, 0]])
    rewards = token_rewards(kl, torch.tensor([10.0, -4.0]), mask, kl_coef=0.1)
    # -0.1 * 0.5, -0.1 * -1, -0.1 * 2 + 10; -0.1 * 3 - 4
    expected = torch.tensor([[-0.05, 0.1, 9.8], [-4.3, 0.0, 0.0]])
    torch.testing.assert_close(rewards, expected)


def test_their_sum_is_the_score_less_the_penalty() -> None:
    generator = torch.Generator().manual_seed(0)
    kl = torch.randn(5, 7, generator=generator, dtype=torch.float64)
    lengths = torch.tensor([1, 7, 3, 5, 2])
    mask = torch.arange(7)[None, :] < lengths[:, None]
    scores = torch.randn(5, generator=generator, dtype=torch.float64)
    rewards = token_rewards(kl, scores, mask, kl_coef=0.3)
    summed = torch.tensor([float(kl[i, :length].sum()) for i, length in enumerate(lengths)])
    torch.testing.assert_close(rewards.sum(dim=1), scores - 0.3 * summed.double(), rtol=1e-6, atol=1e-6)


def test_without_a_coefficient_only_the_end_is_rewarded() -> None:
    rewards = token_rewards(torch.ones(1, 4), torch.tensor([2.0]), torch.tensor([[1, 1, 1, 0]]), kl_coef=0)
    assert rewards.tolist() == [[0.0, 0.0, 2.0, 0.0]]


def test_bad_arguments() -> None:
    kl, mask = torch.ones(2, 3), torch.tensor([[1, 1, 0], [0, 0, 0]])
    with pytest.raises(ValueError, match="no place for its score"):
        token_rewards(kl, torch.ones(2), mask, kl_coef=0.1)
    with pytest.raises(ValueError, match="kl_coef"):
        token_rewards(kl, torch.ones(2), torch.ones(2, 3), kl_coef=-0.1)
    with pytest.raises(ValueError, match="shape"):
        token_rewards(kl, torch.ones(3), torch.ones(2, 3), kl_coef=0.1)
    with pytest.raises(ValueError, match="shape"):
        token_rewards(kl, torch.ones(2), torch.ones(2, 2), kl_coef=0.1)


def test_explained_variance() -> None:
    returns = torch.tensor([[1.0, 2.0, 3.0], [4.0, 99.0, 99.0]])
    mask = torch.tensor([[1, 1, 1], [1, 0, 0]])
    assert explained_variance(returns.clone(), returns, mask) == 1.0
    assert explained_variance(torch.full((2, 3), 2.5), returns, mask) == 0.0
    # Residuals 0, 0, 0, 2 with variance 0.75; returns 1, 2, 3, 4 with variance 1.25.
    values = torch.tensor([[1.0, 2.0, 3.0], [2.0, 0.0, 0.0]])
    assert explained_variance(values, returns, mask) == pytest.approx(1 - 0.75 / 1.25)
    assert math.isnan(explained_variance(values, torch.ones(2, 3), mask))
