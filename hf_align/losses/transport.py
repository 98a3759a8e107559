"""AOT: pairwise losses that compare the sorted values of many pairs, not the values of each pair.

Melnyk et al. 2024, arXiv 2406.05882 (alignment via optimal transport): one distribution is to dominate
another, which on samples is a comparison of order statistics. The losses therefore belong to a set of pairs;
``among`` gives those of a whole optimizer step where a call holds only some of its pairs.
"""

from __future__ import annotations

import torch
from torch.nn.functional import logsigmoid

from hf_align.losses.checks import check_share, check_sign
from hf_align.losses.log_ratios import log_ratios
from hf_align.types import PairLogps


def aot_loss(
    policy: PairLogps,
    reference: PairLogps | None,
    *,
    beta: float,
    label_smoothing: float = 0.0,
    among: torch.Tensor | None = None,
) -> torch.Tensor:
    """-log sigma(beta (u - v)), (B,) nats: u = log pi(chosen) - log pi(rejected) of a pair, and v the same of
    the reference, of the pair whose v has the rank that u has.

    ``among`` (N, 4): log-probabilities of the chosen and rejected answers under the policy, then under the
    reference, of all pairs that are sorted together; by default the B pairs. ``label_smoothing`` in [0, 1].
    Raises ValueError for other values or shapes that differ.
    """
    log_ratios(policy, reference)
    among = _values(policy, reference) if among is None else among.to(policy.chosen.dtype)
    margins = policy.chosen - policy.rejected
    matched = _of_same_rank(margins, among[:, 0] - among[:, 1], among[:, 2] - among[:, 3])
    return _smoothed(margins - matched, beta, label_smoothing)


def aot_unpaired_loss(
    policy: PairLogps,
    reference: PairLogps | None,
    *,
    beta: float,
    label_smoothing: float = 0.0,
    among: torch.Tensor | None = None,
) -> torch.Tensor:
    """-log sigma(beta (r_w - r_l)), (B,) nats, where r_w and r_l are log-ratios of the same rank.

    Each pair carries half of the loss of its chosen and half of that of its rejected answer, with the whole
    gradient of both. Options and errors as :func:`aot_loss`.
    """
    chosen, rejected = log_ratios(policy, reference)
    among = _values(policy, reference) if among is None else among.to(chosen.dtype)
    every_chosen, every_rejected = among[:, 0] - among[:, 2], among[:, 1] - among[:, 3]
    up = _smoothed(chosen - _of_same_rank(chosen, every_chosen, every_rejected), beta, label_smoothing)
    down = _smoothed(_of_same_rank(rejected, every_rejected, every_chosen) - rejected, beta, label_smoothing)
    both = up + down
    return both - both.detach() / 2


def _values(policy: PairLogps, reference: PairLogps | None) -> torch.Tensor:
    """(B, 4) as ``among`` has them."""
    zeros = torch.zeros_like(policy.chosen)
    other = (zeros, zeros) if reference is None else (reference.chosen, reference.rejected)
    return torch.stack([policy.chosen, policy.rejected, *other], dim=1).detach()


def _of_same_rank(values: torch.Tensor, population: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """For each of ``values`` (B,), which are of the ``population`` (N,) but for rounding, the element of
    ``others`` (N,) that has its rank."""
    values, ordered = values.detach(), population.sort().values
    last = len(ordered) - 1
    above = torch.searchsorted(ordered, values).clamp(max=last)
    below = (above - 1).clamp(min=0)
    ranks = torch.where((values - ordered[below]) < (ordered[above] - values).abs(), below, above)
    # Of several equal values each has a rank of its own.
    earlier = (values[:, None] == values[None, :]).tril(-1).sum(dim=1)
    return others.sort().values[(ranks + earlier).clamp(max=last)]


def _smoothed(difference: torch.Tensor, beta: float, label_smoothing: float) -> torch.Tensor:
    check_sign("beta", beta)
    check_share("label_smoothing", label_smoothing, upper=1.0)
    scaled = beta * difference
    return -(1 - label_smoothing) * logsigmoid(scaled) - label_smoothing * logsigmoid(-scaled)
