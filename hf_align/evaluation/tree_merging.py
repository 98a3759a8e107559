"""Several prompts that begin alike as one tree, where that computes fewer tokens.

Questions after the same solved examples share most of their prompts. A tree has one level only: what is
merged shares the common beginning, and every branch then carries the rest of its own prompt.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hf_align.data.comparisons.encoding import common_start
from hf_align.types import ComparisonRow, TokenizedRow


def merge_trees(trees: Sequence[ComparisonRow], max_tokens: int) -> list[tuple[ComparisonRow, list[int]]]:
    """(tree, the numbers of those that it holds, in the order of its branches), in the order of ``trees``.

    As many neighbours as ``max_tokens`` has room for are merged, if that saves tokens.
    """
    merged: list[tuple[ComparisonRow, list[int]]] = []
    for group in _groups(trees, max_tokens):
        if _cost(trees, group, _common(trees, group)) < sum(len(trees[number]) for number in group):
            merged.append((_merged(trees, group), group))
        else:
            merged += [(trees[number], [number]) for number in group]
    return merged


def _groups(trees: Sequence[ComparisonRow], max_tokens: int) -> list[list[int]]:
    groups: list[list[int]] = []
    for number in range(len(trees)):
        wider = [*groups[-1], number] if groups else []
        if wider and _cost(trees, wider, _common(trees, wider)) <= max_tokens:
            groups[-1] = wider
        else:
            groups.append([number])
    return groups


def _cost(trees: Sequence[ComparisonRow], numbers: Sequence[int], shared: int) -> int:
    """Tokens of the trees ``numbers`` as one tree whose prefix has ``shared`` of them."""
    rest = sum(len(trees[i].branches) * (len(trees[i].prefix) - shared) for i in numbers)
    return shared + rest + sum(len(branch) for i in numbers for branch in trees[i].branches)


def _merged(trees: Sequence[ComparisonRow], numbers: Sequence[int]) -> ComparisonRow:
    shared = _common(trees, numbers)
    branches = tuple(
        TokenizedRow(
            np.concatenate([trees[i].prefix[shared:], branch.input_ids]),
            np.concatenate([np.zeros(len(trees[i].prefix) - shared, dtype=bool), branch.target_mask]),
            branch.source,
        )
        for i in numbers
        for branch in trees[i].branches
    )
    first = trees[numbers[0]]
    return ComparisonRow(first.prefix[:shared], branches, np.zeros(len(branches)), source=first.source)


def _common(trees: Sequence[ComparisonRow], numbers: Sequence[int]) -> int:
    """Tokens that the prefixes of the trees ``numbers`` have in common at their start."""
    return common_start([trees[i].prefix for i in numbers])
