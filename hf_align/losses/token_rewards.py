"""The reward of each sampled token: a penalty for leaving the reference, and at the end the score."""

from __future__ import annotations

import torch

from hf_align.losses.checks import check_shapes, check_sign


def token_rewards(
    kl: torch.Tensor, scores: torch.Tensor, mask: torch.Tensor, *, kl_coef: float
) -> torch.Tensor:
    """-kl_coef * KL_t, plus the score at the last token of the response; (B, T), 0 where nothing counts.

    ``kl`` (B, T): estimate of the divergence from the reference at each token, in nats. ``scores`` (B,).
    ``mask`` (B, T): the tokens of the response, from the first column on and without gaps, at least one in a
    row. ``kl_coef`` >= 0, in units of the score per nat. Raises ValueError for another coefficient, for a row
    without a token and for shapes that differ.

    Source: Ziegler et al. 2019, arXiv 1909.08593, equation 2; Stiennon et al. 2020, arXiv 2009.01325.
    """
    check_sign("kl_coef", kl_coef, zero=True)
    check_shapes(kl=kl, mask=mask)
    check_shapes(scores=scores, responses=mask[:, 0])
    lengths = mask.bool().sum(dim=1)
    if not bool((lengths > 0).all()):
        raise ValueError("mask: a response without a token has no place for its score")
    rewards = torch.where(mask.bool(), -kl_coef * kl, 0.0)
    return rewards.scatter_add(1, (lengths - 1)[:, None], scores.to(rewards.dtype)[:, None])


def explained_variance(values: torch.Tensor, returns: torch.Tensor, mask: torch.Tensor) -> float:
    """1 - Var(returns - values) / Var(returns) over the tokens that count; all (B, T).

    1: the values foresee every return; 0: no better than their mean; NaN where the returns do not vary.
    Raises ValueError for shapes that differ.
    """
    check_shapes(values=values, returns=returns, mask=mask)
    counted = mask.bool()
    total = returns[counted].double().var(correction=0)
    rest = (returns[counted].double() - values[counted].double()).var(correction=0)
    return float(1 - rest / total) if total > 0 else float("nan")
