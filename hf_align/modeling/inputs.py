"""How a batch is handed to a model: the keyword arguments of one forward pass.

On a CPU a packed row is filled up to one of few lengths here (``few_shapes`` says why), behind its last
segment, so that every place in the row stays where the batch says it is.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch.nn import functional

from hf_align.modeling.few_shapes import few_length
from hf_align.types import IGNORE_INDEX, Batch, ComparisonBatch, LabelledBatch


def model_inputs(batch: Batch) -> dict[str, Any]:
    """Arguments for the ``forward`` of a model with segment attention and a target head."""
    return {**_trunk_inputs(batch), "shift_labels": _filled(batch, batch.shift_labels, IGNORE_INDEX)}


def scoring_inputs(batch: ComparisonBatch) -> dict[str, Any]:
    """Arguments for the ``forward`` of a model with a reward head."""
    return {**_trunk_inputs(batch.inputs), "last_tokens": batch.last_tokens}


def classification_inputs(batch: LabelledBatch) -> dict[str, Any]:
    """Arguments for the ``forward`` of a model with a sequence head."""
    inputs = {**_trunk_inputs(batch.inputs), "last_tokens": batch.last_tokens}
    if batch.segment_ids is None:
        return inputs
    return {**inputs, "token_type_ids": _filled(batch.inputs, batch.segment_ids)}


def places(inputs: dict[str, Any], chosen: torch.Tensor) -> torch.Tensor:
    """``chosen`` (B, T) bool of a batch for the positions of ``inputs``, False in a packed row's filler."""
    return functional.pad(chosen, (0, inputs["input_ids"].shape[1] - chosen.shape[1]), value=False)


def _trunk_inputs(batch: Batch) -> dict[str, Any]:
    inputs: dict[str, Any] = {"input_ids": _filled(batch, batch.input_ids)}
    if batch.segments is None:
        # Padding is on the right, where the models' own positions are right; some (BLOOM, MPT) take none.
        inputs["attention_mask"] = batch.attention_mask
    else:
        # The filler's positions are all 0, which every model has.
        inputs["position_ids"] = _filled(batch, batch.position_ids)
        inputs["segments"] = replace(batch.segments, filler=_filler(batch))
        # Four dimensions: transformers hands such a mask on untouched and builds none of its own.
        inputs["attention_mask"] = batch.segments.cu_seqlens.view(1, 1, 1, -1)
    return inputs


def _filler(batch: Batch) -> int:
    """Positions that fill a packed row up to one of few lengths, on a CPU; none in a padded batch."""
    if batch.segments is None or batch.input_ids.device.type != "cpu":
        return 0
    return few_length(length := batch.input_ids.shape[1]) - length


def _filled(batch: Batch, values: torch.Tensor, filler: int = 0) -> torch.Tensor:
    """``values`` (1, T) of a packed row with ``filler`` behind them; those of a padded batch as they are."""
    return functional.pad(values, (0, count), value=filler) if (count := _filler(batch)) else values
