"""Pairwise losses that hold each answer against its reference, not only the two answers against each other.

In the equations r_w and r_l are the log-ratios of the chosen and of the rejected answer.
"""

from __future__ import annotations

import torch
from torch.nn.functional import logsigmoid

from hf_align.losses.checks import check_sign
from hf_align.losses.log_ratios import log_ratios
from hf_align.types import PairLogps


def apo_zero_loss(policy: PairLogps, reference: PairLogps | None, *, beta: float) -> torch.Tensor:
    """1 - sigma(beta r_w) + sigma(beta r_l), (B,): the chosen answer up, the rejected one down.

    For chosen answers that are better than what the model writes. Raises ValueError for beta <= 0 or shapes
    that differ.
    """
    check_sign("beta", beta)
    chosen, rejected = log_ratios(policy, reference)
    # D'Oosterlinck et al. 2024, arXiv 2408.06266, eq. 7; 1 - sigma(x) = sigma(-x)
    return torch.sigmoid(-beta * chosen) + torch.sigmoid(beta * rejected)


def apo_down_loss(policy: PairLogps, reference: PairLogps | None, *, beta: float) -> torch.Tensor:
    """sigma(beta r_w) + 1 - sigma(beta (r_w - r_l)), (B,): both answers down, the rejected one more.

    For chosen answers that are worse than what the model writes. Raises ValueError for beta <= 0 or shapes
    that differ.
    """
    check_sign("beta", beta)
    chosen, rejected = log_ratios(policy, reference)
    # D'Oosterlinck et al. 2024, arXiv 2408.06266, eq. 8
    return torch.sigmoid(beta * chosen) + torch.sigmoid(-beta * (chosen - rejected))


def nca_pair_loss(policy: PairLogps, reference: PairLogps | None, *, beta: float) -> torch.Tensor:
    """-log sigma(beta r_w) - 1/2 log sigma(-beta r_w) - 1/2 log sigma(-beta r_l), (B,) nats.

    Raises ValueError for beta <= 0 or shapes that differ.
    """
    check_sign("beta", beta)
    chosen, rejected = (beta * ratio for ratio in log_ratios(policy, reference))
    # Chen et al. 2024, arXiv 2402.05369, NCA for pairs
    return -logsigmoid(chosen) - (logsigmoid(-chosen) + logsigmoid(-rejected)) / 2


def sppo_hard_loss(policy: PairLogps, reference: PairLogps | None, *, beta: float) -> torch.Tensor:
    """(r_w - 1 / (2 beta))^2 + (r_l + 1 / (2 beta))^2, (B,): a win counts 1 and a loss 0.

    Raises ValueError for beta <= 0 or shapes that differ.
    """
    check_sign("beta", beta)
    chosen, rejected = log_ratios(policy, reference)
    # Wu et al. 2024, arXiv 2405.00675, eq. 4.7 with probabilities 1 and 0; 1 / beta is the paper's eta
    return (chosen - 0.5 / beta) ** 2 + (rejected + 0.5 / beta) ** 2
