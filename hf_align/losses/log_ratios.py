"""What pairwise losses are made of: log-ratios of two answers to their reference, and how they are scored."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch.nn.functional import logsigmoid

from hf_align.losses.checks import check_shapes
from hf_align.types import PairLogps


def log_ratios(policy: PairLogps, reference: PairLogps | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-ratios of the chosen and of the rejected answers in nats, token sums, each (B,).

    ``reference=None``: the policy's log-probabilities as they are. Times beta these are the implicit rewards
    of DPO (Rafailov et al. 2023, arXiv 2305.18290, section 4), without the part that only depends on the
    prompt. Raises ValueError where shapes differ.
    """
    check_shapes(**policy._asdict())
    if reference is None:
        return policy.chosen, policy.rejected
    check_shapes(**{"policy": policy.chosen, **{f"reference {k}": v for k, v in reference._asdict().items()}})
    return policy.chosen - reference.chosen, policy.rejected - reference.rejected


def per_token(sums: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Token sums over token counts, both (B,). An answer without tokens counts as one token long."""
    return sums / lengths.clamp(min=1).to(sums.dtype)


def divergence_scores(
    policy: PairLogps, reference: PairLogps | None, *, divergence: str, alpha: float = 0.5
) -> PairLogps:
    """The pairs with f'(exp(log-ratio)) in place of log-probabilities, to be used without a reference.

    ``divergence``: a name of ``F_DIVERGENCES``; ``alpha`` belongs to ``alpha_divergence``. With
    ``reverse_kl`` a score is the log-ratio itself. All scores are 0 where policy and reference are the same.
    """
    chosen, rejected = log_ratios(policy, reference)
    score = F_DIVERGENCES[divergence]
    return policy._replace(chosen=score(chosen, alpha), rejected=score(rejected, alpha))


def _alpha_score(ratio: torch.Tensor, alpha: float) -> torch.Tensor:
    if abs(alpha - 1) < 1e-6:
        return ratio
    # Beyond exp(80) float32 has no number; there the gradient is zero.
    return torch.expm1(((alpha - 1) * ratio).clamp(max=80.0)) / (alpha - 1)


# Wang et al. 2023, arXiv 2309.16240, table 1: f' of each divergence, up to a constant that a difference drops
F_DIVERGENCES: dict[str, Callable[[torch.Tensor, float], torch.Tensor]] = {
    "reverse_kl": lambda ratio, alpha: ratio,
    "forward_kl": lambda ratio, alpha: -torch.expm1((-ratio).clamp(max=80.0)),
    "js_divergence": lambda ratio, alpha: math.log(2) + logsigmoid(ratio),
    "alpha_divergence": _alpha_score,
}
"""f'(t) with t = pi / pi_ref, from log t and alpha, by TRL's names."""
