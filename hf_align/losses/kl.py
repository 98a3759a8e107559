"""Estimates of the Kullback-Leibler divergence between two models from the tokens that were seen.

What this module leaves out: which tokens count, sums over them, and controllers of a KL penalty.
"""

from __future__ import annotations

import torch

from hf_align.losses.checks import check_shapes

MAX_LOG_RATIO = 60.0
"""k3 takes larger log-ratios for this one (nats), so that sums of its exponential stay finite in float32."""


def kl_estimate(logps: torch.Tensor, reference_logps: torch.Tensor, *, kind: str = "k1") -> torch.Tensor:
    """Estimate of KL(pi || pi_ref) at each token, in nats, of the shape of ``logps`` (B, T) or (N,).

    ``logps`` and ``reference_logps``: log-probabilities of the same tokens under the model and under its
    reference. For tokens that the model sampled, ``k1`` and ``k3`` have the divergence as their mean (``k1``
    varies more and may be negative, ``k3`` never is), and ``k2`` is biased but close where the models are.
    For tokens from elsewhere, such as the answers of a data set, none of them is a divergence; ``k2`` and
    ``k3`` still measure how far apart the models are on them. Raises ValueError for another kind or shapes
    that differ.

    Source: Schulman 2020, "Approximating KL divergence", joschu.net/blog/kl-approx.html.
    """
    check_shapes(logps=logps, reference_logps=reference_logps)
    log_ratio = reference_logps - logps  # log r, r = pi_ref / pi
    if kind == "k1":
        return -log_ratio  # k1 = -log r
    if kind == "k2":
        return 0.5 * log_ratio**2  # k2 = (log r)^2 / 2
    if kind == "k3":
        log_ratio = log_ratio.clamp(max=MAX_LOG_RATIO)
        return torch.expm1(log_ratio) - log_ratio  # k3 = (r - 1) - log r
    raise ValueError(f"kind: found {kind!r}, expected 'k1', 'k2' or 'k3'")
