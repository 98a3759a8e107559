"""Arguments of one forward pass: packed rows bring segments, padded ones a mask."""

from __future__ import annotations

from dataclasses import replace

import torch
from helpers.tiny_models import random_rows

from hf_align.data.packing import pack_rows, pad_rows
from hf_align.modeling.inputs import classification_inputs, model_inputs
from hf_align.types import IGNORE_INDEX, LabelledBatch


def test_packed_rows() -> None:
    batch = pack_rows(random_rows([4, 3]))
    inputs = model_inputs(batch)
    assert set(inputs) == {"input_ids", "position_ids", "segments", "attention_mask", "shift_labels"}
    assert inputs["attention_mask"].shape == (1, 1, 1, 3)
    assert inputs["segments"] == replace(batch.segments, filler=9)
    assert inputs["position_ids"].tolist() == [[0, 1, 2, 3, 0, 1, 2, *[0] * 9]]


def test_packed_rows_are_filled_up_to_few_lengths_with_what_counts_nowhere() -> None:
    lengths = set()
    for length in range(512, 1025):
        batch = pack_rows(random_rows([length - 3, 3]))
        inputs = model_inputs(batch)
        shapes = {inputs[name].shape for name in ("input_ids", "position_ids", "shift_labels")}
        (shape,) = shapes
        filler = shape[1] - length
        assert 0 <= filler == inputs["segments"].filler <= length / 16
        for name in ("input_ids", "position_ids", "shift_labels"):
            assert torch.equal(inputs[name][:, :length], getattr(batch, name))
        assert bool((inputs["shift_labels"][:, length:] == IGNORE_INDEX).all())
        lengths.add(shape[1])
    assert len(lengths) == 17


def test_kinds_of_tokens_are_filled_up_with_the_row() -> None:
    batch, ends = pack_rows(random_rows([4, 3])), torch.tensor([3, 6])
    told = LabelledBatch(batch, ends, ends, ends, segment_ids=torch.ones(1, 7, dtype=torch.long))
    assert classification_inputs(told)["token_type_ids"].tolist() == [[*[1] * 7, *[0] * 9]]


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
