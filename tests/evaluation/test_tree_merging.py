"""Prompts that begin alike as one tree: the same sequences, and never more tokens."""

from __future__ import annotations

import numpy as np
from helpers.comparisons import random_comparison
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_align.evaluation.tree_merging import merge_trees


@settings(deadline=None, max_examples=40)
@given(
    sizes=st.lists(st.tuples(st.integers(0, 20), st.integers(1, 4)), min_size=1, max_size=6),
    shared=st.integers(0, 40),
    max_tokens=st.integers(1, 400),
)
def test_merged_trees_hold_the_same_sequences_and_never_more_tokens(sizes, shared, max_tokens):
    beginning = np.arange(shared, dtype=np.int32) + 3
    trees = []
    for seed, (rest, answers) in enumerate(sizes):
        tree = random_comparison(rest, (3,) * answers, seed=seed)
        trees.append(type(tree)(np.concatenate([beginning, tree.prefix]), tree.branches, tree.scores))
    merged = merge_trees(trees, max_tokens)
    assert [number for _, numbers in merged for number in numbers] == list(range(len(trees)))
    assert sum(len(tree) for tree, _ in merged) <= sum(map(len, trees))
    found = [tree.sequence(k) for tree, _ in merged for k in range(len(tree.branches))]
    expected = [tree.sequence(k) for tree in trees for k in range(len(tree.branches))]
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.input_ids.tolist() == theirs.input_ids.tolist()
        assert ours.target_mask.tolist() == theirs.target_mask.tolist()
    for tree, numbers in merged:
        assert len(numbers) == 1 or len(tree) <= max_tokens
