"""Losses of reward models: from the scores of compared answers to a loss for each comparison.

What this module leaves out: how answers become scores, and ties, which are no comparison.
"""

from __future__ import annotations

import torch
from torch.nn.functional import logsigmoid

from hf_align.losses.checks import check_shapes, check_sign


def pairwise_ranking_loss(
    chosen: torch.Tensor,
    rejected: torch.Tensor,
    *,
    margin: torch.Tensor | float | None = None,
    centering: float = 0.0,
) -> torch.Tensor:
    """-log sigma(chosen - rejected - margin) + centering (chosen + rejected)^2, (B,) nats.

    ``chosen`` and ``rejected`` (B,): scores of the chosen and of the rejected answer. ``margin``: by how much
    the chosen answer should win, (B,) or one number for all. ``centering`` >= 0: weight of the term that
    keeps scores around 0, which the first term leaves open. Raises ValueError for a negative weight and for
    shapes that differ.
    """
    check_sign("centering", centering, zero=True)
    check_shapes(chosen=chosen, rejected=rejected)
    difference = chosen - rejected
    if margin is not None:
        if isinstance(margin, torch.Tensor) and margin.ndim:
            check_shapes(chosen=chosen, margin=margin)
        # Touvron et al. 2023 (Llama 2), arXiv 2307.09288, eq. 2
        difference = difference - margin
    # Bradley and Terry 1952; Ouyang et al. 2022 (InstructGPT), arXiv 2203.02155, eq. 1 with K = 2
    loss = -logsigmoid(difference)
    if centering:
        # Eisenstein et al. 2023, arXiv 2312.09244, eq. 2
        loss = loss + centering * (chosen + rejected) ** 2
    return loss


def listwise_ranking_loss(scores: torch.Tensor, *, mask: torch.Tensor | None = None) -> torch.Tensor:
    """Mean over the C(K, 2) pairs of each row of -log sigma(chosen - rejected), (B,) nats.

    ``scores`` (B, K): answers from best to worst. ``mask`` (B, K), True or 1 where an answer counts; the mean
    is over the pairs of those. A row with fewer than two of them has no pair and the loss 0. Raises
    ValueError where ``scores`` is not (B, K) with K >= 2, or the mask has another shape.

    A row is one prompt, whatever K is: the pairs of a prompt are not independent, and InstructGPT found that
    taking them for separate examples overfits.
    """
    if scores.ndim != 2 or scores.shape[1] < 2:
        raise ValueError(
            f"scores: found the shape {tuple(scores.shape)}, expected (B, K) with at least two answers"
        )
    count = scores.shape[1]
    chosen, rejected = torch.triu_indices(count, count, offset=1, device=scores.device).unbind()
    if mask is None:
        # Ouyang et al. 2022 (InstructGPT), arXiv 2203.02155, eq. 1
        return -logsigmoid(scores[:, chosen] - scores[:, rejected]).mean(dim=1)
    check_shapes(scores=scores, mask=mask)
    counts = mask.bool()
    # What stands in the place of an answer that does not count may be anything, even infinite.
    known = torch.where(counts, scores, 0.0)
    pairs = counts[:, chosen] & counts[:, rejected]
    losses = torch.where(pairs, -logsigmoid(known[:, chosen] - known[:, rejected]), 0.0)
    return losses.sum(dim=1) / pairs.sum(dim=1).clamp(min=1)
