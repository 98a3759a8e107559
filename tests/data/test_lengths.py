"""How long rows are, what is left when they are cut, and why nothing can be learned from one."""

from __future__ import annotations

import numpy as np
from helpers.comparisons import random_comparison

from hf_align.data.lengths import cut_row, same_answers, sequence_length, untrainable
from hf_align.types import TokenizedRow


def row(mask: str) -> TokenizedRow:
    """One token a character; x marks a target."""
    return TokenizedRow(np.arange(len(mask), dtype=np.int32), np.array([c == "x" for c in mask]), "p")


def test_a_sequence() -> None:
    assert sequence_length(row("..xx")) == 4 and untrainable(row("..xx")) == ""
    cut = cut_row(row("..xx"), 3)
    assert cut.input_ids.tolist() == [0, 1, 2] and cut.target_tokens == 1
    assert untrainable(cut_row(row("..xx"), 2)) == "no token is a target"


def test_a_tree_is_as_long_as_its_longest_branch() -> None:
    tree = random_comparison(5, (3, 7))
    assert sequence_length(tree) == 12
    cut = cut_row(tree, 9)
    assert len(cut.prefix) == 5 and [len(branch) for branch in cut.branches] == [3, 4]
    assert sequence_length(cut_row(tree, 4)) == 4
    assert untrainable(cut_row(tree, 5)).startswith("no token of answer 1 is a target")


def test_answers_that_differ_behind_the_cut_only() -> None:
    tree = random_comparison(2, (4, 4))
    one, other = tree.branches
    other.input_ids[:3] = one.input_ids[:3]
    other.input_ids[3] = one.input_ids[3] + 1
    assert not same_answers(tree)
    assert same_answers(cut_row(tree, 5))
