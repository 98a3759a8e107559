"""The objectives of encoders: hidden tokens, beside them pairs of segments (BERT) or span boundaries
(SpanBERT)."""

from __future__ import annotations

from dataclasses import replace

import torch

from hf_align.pretraining.objectives.span_boundary import span_boundary_lm
from hf_align.training.objectives.target_sums import summed_targets
from hf_align.types import IGNORE_INDEX, LossOutput, PretrainingBatch


def masked_lm(model: torch.nn.Module, batch: PretrainingBatch) -> LossOutput:
    """Summed negative log-likelihood of the hidden tokens; see :func:`summed_targets`.

    ``model``: a masked language model with a target head installed, wrapped or not.
    """
    return summed_targets(model(**batch.inputs), batch)


def masked_lm_and_pairs(model: torch.nn.Module, batch: PretrainingBatch) -> LossOutput:
    """The same, and the cross-entropy of each pair's label, times the batch's ``pair_weight``.

    BERT (Devlin et al. 2019, appendix A.2): the loss is the sum of the mean masked-LM likelihood and the mean
    next-sentence likelihood. ``model``: one with a selecting head and a head for pairs. ``metrics`` beside
    those of :func:`summed_targets`: ``pair_loss``, ``pairs_correct`` and ``pairs``, sums over the batch.
    """
    output = model(**batch.inputs)
    found = summed_targets(output, batch)
    labels = batch.pair_labels
    assert labels is not None
    logits = output["pair_logits"].float()
    loss = torch.nn.functional.cross_entropy(logits, labels, ignore_index=IGNORE_INDEX, reduction="sum")
    counted = labels != IGNORE_INDEX
    return replace(
        found,
        loss_sum=found.loss_sum + batch.pair_weight * loss,
        metrics=found.metrics
        | {
            "pair_loss": loss.detach(),
            "pairs_correct": ((logits.argmax(dim=1) == labels) & counted).sum(),
            "pairs": counted.sum(),
        },
    )


def masked_spans(model: torch.nn.Module, batch: PretrainingBatch) -> LossOutput:
    """SpanBERT: the hidden tokens are predicted a second time from the boundaries of their span.

    ``model``: one with the span-boundary head. ``metrics`` beside those of :func:`summed_targets`:
    ``boundary_loss`` and ``boundary_correct``.
    """
    outputs: list[torch.Tensor] = []

    def watched(**inputs: torch.Tensor) -> torch.Tensor:
        outputs.append(model(**inputs))
        return outputs[0]

    found = span_boundary_lm(watched, batch.inputs)
    tokens = summed_targets(outputs[0], batch)
    both = {name: found.metrics[name] for name in ("boundary_loss", "boundary_correct")}
    return replace(tokens, loss_sum=found.loss_sum, metrics=tokens.metrics | both)
