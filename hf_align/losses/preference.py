"""Pairwise preference losses: DPO and its family, and the table that names them.

A loss maps the log-probabilities of B answer pairs to (B,) losses in nats; the caller averages. With a
reference, the log-ratio of an answer is log pi(y|x) - log pi_ref(y|x), summed over its tokens; with
``reference=None`` (reference-free) it is log pi(y|x). In the equations

    h = log-ratio of the chosen answer - log-ratio of the rejected one.

To add a loss, write one function and enter it in ``PAIRWISE_LOSSES``. What this module leaves out: the
log-probabilities themselves, the sum of several losses, and the term of supervised fine-tuning.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import logsigmoid

from hf_align.losses.anchored import apo_down_loss, apo_zero_loss, nca_pair_loss, sppo_hard_loss
from hf_align.losses.checks import check_share, check_sign
from hf_align.losses.log_ratios import log_ratios, per_token
from hf_align.losses.transport import aot_loss, aot_unpaired_loss
from hf_align.types import PairLogps


def dpo_loss(
    policy: PairLogps, reference: PairLogps | None, *, beta: float, label_smoothing: float = 0.0
) -> torch.Tensor:
    """-log sigma(beta h), (B,) nats; with label smoothing epsilon, conservative DPO.

    ``beta`` > 0: strength of the pull towards the reference. ``label_smoothing`` in [0, 1]: the share of the
    pairs whose order is taken to be wrong. Raises ValueError for other values or shapes that differ.
    """
    check_sign("beta", beta)
    check_share("label_smoothing", label_smoothing, upper=1.0)
    right, wrong = _both_orders(policy, reference, beta)
    # Mitchell 2023, "A note on DPO with noisy preferences", eq. 3; epsilon = 0: Rafailov et al. 2023, eq. 7
    return (1 - label_smoothing) * right + label_smoothing * wrong


def robust_dpo_loss(
    policy: PairLogps, reference: PairLogps | None, *, beta: float, label_smoothing: float = 0.0
) -> torch.Tensor:
    """The unbiased estimate of DPO's loss without label noise, (B,) nats; it can be negative.

    ``label_smoothing`` in [0, 0.5): the probability that a pair's order was flipped. Raises ValueError for
    beta <= 0, other shares, or shapes that differ.
    """
    check_sign("beta", beta)
    check_share("label_smoothing", label_smoothing, below=0.5)
    right, wrong = _both_orders(policy, reference, beta)
    # Chowdhury et al. 2024, arXiv 2403.00409, section 3: the loss of rDPO
    return ((1 - label_smoothing) * right - label_smoothing * wrong) / (1 - 2 * label_smoothing)


def hinge_loss(policy: PairLogps, reference: PairLogps | None, *, beta: float) -> torch.Tensor:
    """max(0, 1 - beta h), (B,): no gradient once a pair is apart by 1 / beta.

    Raises ValueError for beta <= 0 or shapes that differ.
    """
    check_sign("beta", beta)
    chosen, rejected = log_ratios(policy, reference)
    # SLiC-HF's rank loss (Zhao et al. 2023, arXiv 2305.10425) on log-ratios, as in RSO (Liu et al. 2023,
    # arXiv 2309.06657, "hinge-norm")
    return torch.relu(1 - beta * (chosen - rejected))


def ipo_loss(
    policy: PairLogps, reference: PairLogps | None, *, beta: float, reduction: str = "mean"
) -> torch.Tensor:
    """(h - 1 / (2 beta))^2, (B,): a finite distance between the answers is the goal, not an unbounded one.

    ``beta`` > 0 is the paper's tau. ``reduction``: ``mean`` divides each log-ratio by the tokens of its
    answer, so the loss does not depend on the length of the answers, as the paper's authors did for their
    results; ``sum`` is the paper's equation as it is written. Raises ValueError for another reduction,
    beta <= 0 or shapes that differ.

    Study notes often write the reference-free form with the target 1 / b. That is
    ``ipo_loss(policy, None, beta=b / 2, reduction="sum")``.
    """
    check_sign("beta", beta)
    if reduction not in ("mean", "sum"):
        raise ValueError(f"reduction: found {reduction!r}, expected 'mean' or 'sum'")
    chosen, rejected = log_ratios(policy, reference)
    if reduction == "mean":
        chosen = per_token(chosen, policy.chosen_length)
        rejected = per_token(rejected, policy.rejected_length)
    # Azar et al. 2023, arXiv 2310.12036, eq. 17
    return (chosen - rejected - 1 / (2 * beta)) ** 2


def simpo_loss(policy: PairLogps, *, beta: float, gamma: float) -> torch.Tensor:
    """-log sigma(beta (difference of the answers' mean log-probabilities per token) - gamma), (B,) nats.

    ``gamma`` >= 0: by how much the chosen answer should win, in units of the reward (not divided by beta).
    Raises ValueError for beta <= 0, gamma < 0 or shapes that differ.
    """
    check_sign("beta", beta)
    check_sign("gamma", gamma, zero=True)
    chosen, rejected = _means(policy)
    # Meng et al. 2024, arXiv 2405.14734, eq. 6
    return -logsigmoid(beta * (chosen - rejected) - gamma)


def orpo_loss(policy: PairLogps, *, beta: float) -> torch.Tensor:
    """ORPO's odds-ratio term, weighted: -beta log sigma(log odds(chosen) - log odds(rejected)), (B,) nats.

    ``beta`` is the paper's lambda. The other term of ORPO, the negative log-likelihood of the chosen answer,
    is not part of it. Raises ValueError for beta <= 0 or shapes that differ.
    """
    check_sign("beta", beta)
    chosen, rejected = _means(policy)
    # Hong et al. 2024, arXiv 2403.07691, eq. 7, weighted as in eq. 6
    return -beta * logsigmoid(_log_odds(chosen) - _log_odds(rejected))


def exo_pair_loss(
    policy: PairLogps, reference: PairLogps | None, *, beta: float, label_smoothing: float = 1e-3
) -> torch.Tensor:
    """KL from (sigma(beta h), sigma(-beta h)) to (1 - epsilon, epsilon), (B,) nats: the mode is sought.

    ``label_smoothing`` in (0, 0.5): epsilon; the paper takes 1e-3. Raises ValueError for other shares,
    beta <= 0 or shapes that differ.
    """
    check_sign("beta", beta)
    check_sign("label_smoothing", label_smoothing)
    check_share("label_smoothing", label_smoothing, below=0.5)
    right, wrong = _both_orders(policy, reference, beta)
    # Ji et al. 2024, arXiv 2402.00856, eq. 16, with K = 2
    return torch.exp(-right) * (-right - math.log1p(-label_smoothing)) + torch.exp(-wrong) * (
        -wrong - math.log(label_smoothing)
    )


def discopop_loss(
    policy: PairLogps, reference: PairLogps | None, *, beta: float, tau: float = 0.05
) -> torch.Tensor:
    """(1 - m) (-log sigma(beta h)) + m exp(-beta h) with m = sigma(beta h / tau), (B,); found by search.

    ``tau`` > 0: how sharply the two parts are told apart. Raises ValueError for beta <= 0, tau <= 0 or shapes
    that differ.
    """
    check_sign("beta", beta)
    check_sign("tau", tau)
    chosen, rejected = log_ratios(policy, reference)
    scaled = beta * (chosen - rejected)
    # Lu et al. 2024, arXiv 2406.08414, eq. 5; in one exponential, since each factor alone may overflow
    exponential = torch.exp(logsigmoid(scaled / tau) - scaled)
    return -torch.sigmoid(-scaled / tau) * logsigmoid(scaled) + exponential


def log1mexp(x: torch.Tensor) -> torch.Tensor:
    """log(1 - exp(x)) for x < 0, exact for x near 0 and for large negative x, and so is its gradient.

    Source: Mächler 2012, "Accurately computing log(1 - exp(-|a|))", which also gives log 2 for the switch.
    """
    near = x > -math.log(2)
    by_expm1 = torch.log(-torch.expm1(x))
    # Not fed what it cannot take: where() alone would multiply its infinite gradient there by 0.
    by_log1p = torch.log1p(-torch.exp(torch.where(near, -1.0, x)))
    return torch.where(near, by_expm1, by_log1p)


def _both_orders(
    policy: PairLogps, reference: PairLogps | None, beta: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """DPO's loss for the pairs as they are labelled, and for the opposite labels, each (B,) nats."""
    chosen, rejected = log_ratios(policy, reference)
    scaled = beta * (chosen - rejected)
    return -logsigmoid(scaled), -logsigmoid(-scaled)


def _means(policy: PairLogps) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean log-probability per token of the chosen and of the rejected answers, each (B,) nats."""
    chosen, rejected = log_ratios(policy, None)
    return per_token(chosen, policy.chosen_length), per_token(rejected, policy.rejected_length)


def _log_odds(logps: torch.Tensor) -> torch.Tensor:
    """log(p / (1 - p)) with log p = ``logps`` (B,), the mean per token: eq. 4 of Hong et al. 2024.

    Closer to p = 1 than the number format resolves, p counts as the last value that it does resolve, so
    that neither the odds nor their gradient are infinite.
    """
    logps = logps.clamp(max=-torch.finfo(logps.dtype).eps)
    return logps - log1mexp(logps)


@dataclass(frozen=True)
class PairwiseLoss:
    """One entry of ``PAIRWISE_LOSSES``; it can be called like its function.

    ``uses_reference``: whether the function takes (policy, reference) or the policy alone. ``options``: the
    recipe keys that it takes; those that a recipe prefixes with the loss's name, such as ``ipo_reduction``,
    are keywords without it. ``at_start``: from the same keywords as the function, the loss that every pair
    has while policy and reference are the same model; None where there is no such constant.
    ``by_difference``: whether the log-ratios count only as their difference h, so that an f-divergence other
    than reverse KL may score them. ``over_step``: whether the function takes ``among``, the log-probabilities
    of all pairs of the optimizer step.
    """

    function: Callable[..., torch.Tensor]
    uses_reference: bool
    options: tuple[str, ...]
    at_start: Callable[..., float] | None = None
    by_difference: bool = False
    over_step: bool = False

    def __call__(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        return self.function(*args, **kwargs)


def _log_two(**_: Any) -> float:
    return math.log(2)  # -log sigma(0), whichever way it is smoothed


def _one(**_: Any) -> float:
    return 1.0


def _ipo_at_start(*, beta: float, **_: Any) -> float:
    return (1 / (2 * beta)) ** 2


def _exo_at_start(*, label_smoothing: float = 1e-3, **_: Any) -> float:
    return -math.log(2) - (math.log1p(-label_smoothing) + math.log(label_smoothing)) / 2


PAIRWISE_LOSSES: dict[str, PairwiseLoss] = {
    "dpo": PairwiseLoss(dpo_loss, True, ("beta", "label_smoothing"), _log_two, by_difference=True),
    "robust": PairwiseLoss(robust_dpo_loss, True, ("beta", "label_smoothing"), _log_two, by_difference=True),
    "hinge": PairwiseLoss(hinge_loss, True, ("beta",), _one, by_difference=True),
    "ipo": PairwiseLoss(ipo_loss, True, ("beta", "ipo_reduction"), _ipo_at_start, by_difference=True),
    "exo_pair": PairwiseLoss(
        exo_pair_loss, True, ("beta", "label_smoothing"), _exo_at_start, by_difference=True
    ),
    "discopop": PairwiseLoss(
        discopop_loss, True, ("beta", "discopop_tau"), lambda **_: (math.log(2) + 1) / 2, by_difference=True
    ),
    "apo_zero": PairwiseLoss(apo_zero_loss, True, ("beta",), _one),
    "apo_down": PairwiseLoss(apo_down_loss, True, ("beta",), _one),
    "nca_pair": PairwiseLoss(nca_pair_loss, True, ("beta",), lambda **_: 2 * math.log(2)),
    "sppo_hard": PairwiseLoss(sppo_hard_loss, True, ("beta",), lambda beta: 2 * _ipo_at_start(beta=beta)),
    "aot": PairwiseLoss(aot_loss, True, ("beta", "label_smoothing"), _log_two, over_step=True),
    "aot_unpaired": PairwiseLoss(
        aot_unpaired_loss, True, ("beta", "label_smoothing"), _log_two, over_step=True
    ),
    "simpo": PairwiseLoss(simpo_loss, False, ("beta", "simpo_gamma")),
    "orpo": PairwiseLoss(orpo_loss, False, ("beta",)),
}
"""The losses that a recipe can name in ``loss``; those that TRL has too go by its names, but for sigmoid."""
