"""Losses of the policy for each token, clipped or not, and of values; masks and means are the caller's."""

from __future__ import annotations

import torch

from hf_align.losses.checks import check_shapes, check_sign

MAX_LOG_RATIO = 20.0
"""The log-ratio (nats) is clamped to plus or minus this before it is exponentiated."""


def probability_ratio(logps: torch.Tensor, old_logps: torch.Tensor) -> torch.Tensor:
    """pi(a|s) / pi_old(a|s) for each token, finite also where the two are far apart.

    ``logps`` and ``old_logps``: natural logarithms, of one shape. Raises ValueError for shapes that differ.
    """
    check_shapes(logps=logps, old_logps=old_logps)
    return torch.exp((logps - old_logps).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO))


def policy_loss(
    logps: torch.Tensor,
    old_logps: torch.Tensor,
    advantages: torch.Tensor,
    *,
    clip_range: float,
    clip_range_high: float | None = None,
) -> torch.Tensor:
    """max(-A ratio, -A clip(ratio, 1 - clip_range, 1 + clip_range_high)), (B, T).

    ``logps`` (B, T) under the policy, ``old_logps`` (B, T) under the one that sampled, both in nats.
    ``clip_range`` > 0; ``clip_range_high`` > 0, or None: the same. Raises ValueError for other clip ranges
    and for shapes that differ.

    Source: Schulman et al. 2017, arXiv 1707.06347, equation 7, as a loss; two ranges: DAPO, Yu et al. 2025,
    arXiv 2503.14476, equation 10.
    """
    check_sign("clip_range", clip_range)
    check_sign("clip_range_high", clip_range if clip_range_high is None else clip_range_high)
    check_shapes(logps=logps, old_logps=old_logps, advantages=advantages)
    high = clip_range if clip_range_high is None else clip_range_high
    ratio = probability_ratio(logps, old_logps)
    clipped = ratio.clamp(1 - clip_range, 1 + high)
    return torch.maximum(-advantages * ratio, -advantages * clipped)


def reinforce_loss(logps: torch.Tensor, advantages: torch.Tensor) -> torch.Tensor:
    """-A log pi, (B, T): its gradient is that of the expected reward, with the opposite sign, on samples of
    the policy itself; the reward needs no derivative.

    ``logps`` (B, T) in nats, ``advantages`` (B, T) without gradient. Raises ValueError for shapes that
    differ.

    Source: REINFORCE, Williams 1992, equation 5.
    """
    check_shapes(logps=logps, advantages=advantages)
    return -advantages * logps


def cispo_loss(
    logps: torch.Tensor, ratios: torch.Tensor, advantages: torch.Tensor, *, ratio_max: float
) -> torch.Tensor:
    """-sg(min(ratio, ratio_max)) A log pi, (B, T): the ratio is limited and no token's gradient is cut off.

    ``logps`` (B, T) in nats, ``ratios`` (B, T) of policies. ``ratio_max`` > 0. Raises ValueError for another
    limit and for shapes that differ.

    Source: CISPO, MiniMax 2025, arXiv 2506.13585, equation 4.
    """
    check_sign("ratio_max", ratio_max)
    check_shapes(logps=logps, ratios=ratios, advantages=advantages)
    return -ratios.clamp(max=ratio_max).detach() * advantages * logps


def value_loss(
    values: torch.Tensor, old_values: torch.Tensor, returns: torch.Tensor, *, clip_range: float
) -> torch.Tensor:
    """max((V - R)^2, (clip(V, V_old - clip_range, V_old + clip_range) - R)^2) / 2, (B, T).

    ``values`` (B, T) are trained, ``old_values`` those of the rollout, in the unit of the reward, and so is
    ``clip_range`` > 0. Raises ValueError for another clip range and for shapes that differ.

    Source: openai/baselines ``ppo2``; Ziegler et al. 2019 use the same.
    """
    check_sign("clip_range", clip_range)
    check_shapes(values=values, old_values=old_values, returns=returns)
    clipped = old_values + (values - old_values).clamp(-clip_range, clip_range)
    return 0.5 * torch.maximum((values - returns) ** 2, (clipped - returns) ** 2)
