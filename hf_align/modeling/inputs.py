"""How a batch is handed to a model: the keyword arguments of one forward pass."""

from __future__ import annotations

from typing import Any

from hf_align.types import Batch, ComparisonBatch, LabelledBatch


def model_inputs(batch: Batch) -> dict[str, Any]:
    """Arguments for the ``forward`` of a model with segment attention and a target head."""
    return {**_trunk_inputs(batch), "shift_labels": batch.shift_labels}


def scoring_inputs(batch: ComparisonBatch) -> dict[str, Any]:
    """Arguments for the ``forward`` of a model with a reward head."""
    return {**_trunk_inputs(batch.inputs), "last_tokens": batch.last_tokens}


def classification_inputs(batch: LabelledBatch) -> dict[str, Any]:
    """Arguments for the ``forward`` of a model with a sequence head."""
    inputs = {**_trunk_inputs(batch.inputs), "last_tokens": batch.last_tokens}
    return inputs if batch.segment_ids is None else {**inputs, "token_type_ids": batch.segment_ids}


def _trunk_inputs(batch: Batch) -> dict[str, Any]:
    inputs: dict[str, Any] = {"input_ids": batch.input_ids}
    if batch.segments is None:
        # Padding is on the right, where the models' own positions are right; some (BLOOM, MPT) take none.
        inputs["attention_mask"] = batch.attention_mask
    else:
        inputs["position_ids"] = batch.position_ids
        inputs["segments"] = batch.segments
        # Four dimensions: transformers hands such a mask on untouched and builds none of its own.
        inputs["attention_mask"] = batch.segments.cu_seqlens.view(1, 1, 1, -1)
    return inputs
