"""Tokenised rows: what they count, and a tree's whole sequences and pairs, by hand."""

from __future__ import annotations

import numpy as np

from hf_align.types import IGNORE_INDEX, ComparisonRow, LabelledRow, PretrainingRow, TokenizedRow


def row(ids: list[int], targets: list[int]) -> TokenizedRow:
    return TokenizedRow(np.array(ids, np.int32), np.array(targets, bool))


def test_a_tree_computes_its_prefix_once() -> None:
    branches = (row([3, 4], [0, 1]), row([3, 5, 6], [0, 1, 1]), row([3, 7], [0, 1]))
    tree = ComparisonRow(np.array([1, 2], np.int32), branches, np.array([1.0, 2.0, 1.0]), source="p:1")
    assert len(tree) == 2 + 2 + 3 + 2 and tree.target_tokens == 4
    whole = tree.sequence(1)
    assert whole.input_ids.tolist() == [1, 2, 3, 5, 6] and whole.source == "p:1"
    assert whole.target_mask.tolist() == [False, False, False, True, True]
    # The first and the third tie.
    assert tree.pairs() == [(1, 0), (1, 2)]


def test_labels_and_lengths() -> None:
    labelled = LabelledRow(np.array([1, 2], np.int32), np.zeros(2, bool))
    assert len(labelled) == 2 and labelled.target_tokens == 0 and labelled.label == IGNORE_INDEX
    assert len(PretrainingRow({"input_ids": [1, 2, 3]}, 5)) == 5
