"""Tokenised rows: what they count, and a tree's whole sequences and pairs, by hand."""

from __future__ import annotations

import numpy as np
from helpers.comparisons import random_comparison

from hf_align.types import IGNORE_INDEX, ComparisonRow, LabelledRow, PretrainingRow, TokenizedRow


def row(ids: list[int], targets: list[int]) -> TokenizedRow:
    return TokenizedRow(np.array(ids, np.int32), np.array(targets, bool))


def marked(mask: str) -> TokenizedRow:
    """One token a character; x marks a target."""
    return TokenizedRow(np.arange(len(mask), dtype=np.int32), np.array([c == "x" for c in mask]), "p")


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
    pretraining = PretrainingRow({"input_ids": [1, 2, 3]}, 5)
    assert len(pretraining) == 5 and pretraining.lengths == (5,)


def test_a_sequence() -> None:
    assert max(marked("..xx").lengths) == 4 and marked("..xx").untrainable() == ""
    cut = marked("..xx").cut(3)
    assert cut.input_ids.tolist() == [0, 1, 2] and cut.target_tokens == 1
    assert marked("..xx").cut(2).untrainable() == "no token is a target"


def test_a_tree_is_as_long_as_its_longest_branch() -> None:
    tree = random_comparison(5, (3, 7))
    assert max(tree.lengths) == 12
    cut = tree.cut(9)
    assert len(cut.prefix) == 5 and [len(branch) for branch in cut.branches] == [3, 4]
    assert max(tree.cut(4).lengths) == 4
    assert tree.cut(5).untrainable().startswith("no token of answer 1 is a target")


def test_answers_that_differ_behind_the_cut_only() -> None:
    tree = random_comparison(2, (4, 4))
    one, other = tree.branches
    other.input_ids[:3] = one.input_ids[:3]
    other.input_ids[3] = one.input_ids[3] + 1
    assert not tree.same_answers()
    assert tree.cut(5).same_answers()


def test_pieces_are_the_prefix_and_what_follows_it() -> None:
    prefix, pieces = marked("..x").pieces()
    assert (prefix.tolist(), prefix.dtype, [len(piece) for piece in pieces]) == ([], np.int32, [3])
    tree = random_comparison(5, (3, 7))
    prefix, pieces = tree.pieces()
    assert prefix is tree.prefix and pieces is tree.branches and tree.lengths == (8, 12)


def test_why_nothing_can_be_learned_says_where_a_row_was_cut() -> None:
    assert marked("..xx").cut(2).untrainable(2) == "its targets begin after token 2"
    assert (
        random_comparison(5, (3, 7)).cut(5).untrainable(5) == "no token of answer 1 is a target up to token 5"
    )


def test_a_labelled_row_needs_no_target_and_is_cut_with_its_segments() -> None:
    ids, segments = np.array([1, 2, 3], np.int32), np.array([0, 0, 1], np.int32)
    labelled = LabelledRow(ids, np.zeros(3, bool), "p", label=2, segment_ids=segments)
    assert labelled.untrainable() == ""
    cut = labelled.cut(2)
    assert (cut.input_ids.tolist(), cut.segment_ids.tolist(), cut.label) == ([1, 2], [0, 0], 2)
    assert LabelledRow(ids, np.zeros(3, bool)).cut(1).segment_ids is None
