"""Arguments of one forward pass: packed rows bring segments, padded ones a mask."""

from __future__ import annotations

import torch
from helpers.tiny_models import random_rows

from hf_align.data.packing import pack_rows, pad_rows
from hf_align.modeling.inputs import classification_inputs, model_inputs
from hf_align.types import LabelledBatch


def test_packed_rows() -> None:
    batch = pack_rows(random_rows([4, 3]))
    inputs = model_inputs(batch)
    assert set(inputs) == {"input_ids", "position_ids", "segments", "attention_mask", "shift_labels"}
    assert inputs["attention_mask"].shape == (1, 1, 1, 3) and inputs["segments"] is batch.segments
    assert inputs["position_ids"].tolist() == [[0, 1, 2, 3, 0, 1, 2]]


def test_padded_rows_leave_positions_to_the_model() -> None:
    batch = pad_rows(random_rows([4, 3]), 0)
    inputs = model_inputs(batch)
    assert set(inputs) == {"input_ids", "attention_mask", "shift_labels"}
    assert inputs["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 1, 0]]


def test_segment_ids_only_where_there_are_some() -> None:
    batch, ends = pad_rows(random_rows([4, 3]), 0), torch.tensor([3, 6])
    plain = LabelledBatch(batch, ends, ends, ends)
    assert set(classification_inputs(plain)) == {"input_ids", "attention_mask", "last_tokens"}
    told = LabelledBatch(batch, ends, ends, ends, segment_ids=batch.input_ids)
    assert classification_inputs(told)["token_type_ids"] is batch.input_ids
