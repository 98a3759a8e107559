"""Segments with parents: keys of each, by hand."""

from __future__ import annotations

import torch

from hf_align.types import PretrainingBatch, Segments


def test_a_child_sees_its_parent_and_itself() -> None:
    bounds = torch.tensor([0, 4, 6, 9, 14], dtype=torch.int32)
    tree = Segments((0, 4, 6, 9), (4, 2, 3, 5), bounds, parents=(-1, 0, 0, -1))
    assert tree.key_lengths == (4, 6, 7, 5) and tree.max_length == 5
    row = Segments((0, 4), (4, 2), bounds[:3])
    assert row.key_lengths == row.lengths == (4, 2)


def test_targets_are_counted_by_their_ids() -> None:
    batch = PretrainingBatch({}, torch.tensor([5, 6, 7]), torch.zeros(3))
    assert batch.target_tokens == 3 and batch.pair_weight == 1.0
