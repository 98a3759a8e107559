"""Losses on single answers with a label, desirable or not: KTO and its kin, and the table that names them.

A loss maps the log-probabilities of B answers to (B,) losses; the caller averages. In the equations r is an
answer's log-ratio log pi(y|x) - log pi_ref(y|x), summed over its tokens, and z the estimate of the KL
divergence between policy and reference that answers are compared with.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from hf_align.losses.checks import check_shapes, check_sign


def kto_loss(
    policy_logps: torch.Tensor,
    reference_logps: torch.Tensor,
    desirable: torch.Tensor,
    *,
    beta: float,
    kl: torch.Tensor | float,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
) -> torch.Tensor:
    """w_D (1 - sigma(beta (r - z))) for desirable answers, w_U (1 - sigma(beta (z - r))) for others, (B,).

    ``policy_logps``, ``reference_logps`` (B,): token sums in nats. ``desirable`` (B,) bool. ``kl``: z, the
    mean of the log-ratios of mismatched pairs, at least 0; no gradient goes through it. Raises ValueError for
    beta <= 0, a weight below 0, or shapes that differ.
    """
    _check(policy_logps, reference_logps, desirable, beta, desirable_weight, undesirable_weight)
    z = kl.detach() if isinstance(kl, torch.Tensor) else kl
    # Ethayarajh et al. 2024, arXiv 2402.01306, eq. 8; 1 - sigma(x) = sigma(-x) keeps small values exact
    ahead = beta * (policy_logps - reference_logps - z)
    losses = torch.sigmoid(torch.where(desirable, -ahead, ahead))
    return losses * _weights(losses, desirable, desirable_weight, undesirable_weight)


def apo_zero_unpaired_loss(
    policy_logps: torch.Tensor,
    reference_logps: torch.Tensor,
    desirable: torch.Tensor,
    *,
    beta: float,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
) -> torch.Tensor:
    """w_D (1 - sigma(beta r)) for desirable answers, w_U sigma(beta r) for others, (B,).

    KTO with z = 0: desirable answers are to become likelier than they were, others less likely. Raises
    ValueError as :func:`kto_loss`.
    """
    # D'Oosterlinck et al. 2024, arXiv 2408.06266, APO-zero, each answer by itself
    return kto_loss(
        policy_logps,
        reference_logps,
        desirable,
        beta=beta,
        kl=0.0,
        desirable_weight=desirable_weight,
        undesirable_weight=undesirable_weight,
    )


def _check(
    policy: torch.Tensor,
    reference: torch.Tensor,
    desirable: torch.Tensor,
    beta: float,
    desirable_weight: float,
    undesirable_weight: float,
) -> None:
    check_sign("beta", beta)
    check_sign("desirable_weight", desirable_weight, zero=True)
    check_sign("undesirable_weight", undesirable_weight, zero=True)
    check_shapes(policy_logps=policy, reference_logps=reference, desirable=desirable)


def _weights(
    losses: torch.Tensor, desirable: torch.Tensor, desirable_weight: float, undesirable_weight: float
) -> torch.Tensor:
    return torch.where(desirable, desirable_weight, undesirable_weight).to(losses.dtype)


@dataclass(frozen=True)
class UnpairedLoss:
    """One entry of ``UNPAIRED_LOSSES``; it can be called like its function.

    ``uses_kl``: whether the function takes ``kl``. ``at_start``: the loss of every answer, before the weight
    of its label, while policy and reference are the same model.
    """

    function: Callable[..., torch.Tensor]
    uses_kl: bool
    at_start: float

    def __call__(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        return self.function(*args, **kwargs)


UNPAIRED_LOSSES: dict[str, UnpairedLoss] = {
    "kto": UnpairedLoss(kto_loss, uses_kl=True, at_start=0.5),
    "apo_zero_unpaired": UnpairedLoss(apo_zero_unpaired_loss, uses_kl=False, at_start=0.5),
}
"""The losses that a recipe of ``hf-align kto`` can name in ``loss_type``."""
