"""Reward modelling: the better of two answers to a prompt is to get the higher score."""

from __future__ import annotations

import torch

from hf_align.losses import pairwise_ranking_loss
from hf_align.modeling.inputs import scoring_inputs
from hf_align.types import ComparisonBatch, LossOutput


def reward(model: torch.nn.Module, batch: ComparisonBatch, *, centering: float = 0.0) -> LossOutput:
    """Ranking loss of every pair of answers that do not tie, averaged over the pairs of a prompt.

    ``model``: a sequence classifier with a reward head installed, wrapped or not. With two answers it is the
    pairwise loss; with K answers all pairs of a prompt are one element and each answer is scored once
    (InstructGPT, arXiv 2203.02155, equation 1). ``centering``: weight of (r_w + r_l)^2.
    """
    scores = model(**scoring_inputs(batch))["scores"]
    chosen, rejected = scores[batch.chosen], scores[batch.rejected]
    losses = pairwise_ranking_loss(chosen, rejected, margin=batch.margins, centering=centering)
    weights = batch.pair_weights
    won, lost = chosen.detach(), rejected.detach()
    lengths = batch.answer_lengths
    return LossOutput(
        loss_sum=(weights * losses).sum(),
        count=batch.prompts,
        metrics={
            "rewards/chosen": (weights * won).sum(),
            "rewards/rejected": (weights * lost).sum(),
            "rewards/margins": (weights * (won - lost)).sum(),
            "rewards/accuracies": (weights * (won > lost)).sum(),
        },
        details={
            "margins": won - lost,
            "chosen": won,
            "rejected": lost,
            "length_differences": lengths[batch.chosen] - lengths[batch.rejected],
            "pair_weights": weights,
            # A row without targets is one that only keeps a process busy.
            "scores": scores.detach()[lengths > 0],
            "lengths": lengths[lengths > 0],
        },
    )
