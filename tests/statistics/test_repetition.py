"""Repeated n-grams, counted by hand."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_align.statistics.repetition import repeated_ngrams


@pytest.mark.parametrize(
    ("tokens", "n", "expected"),
    [
        ([1, 2, 3, 4, 5], 4, 0.0),
        ([7] * 8, 4, 0.8),  # five 4-grams, one of them distinct
        ([1, 2, 1, 2, 1, 2], 2, 0.6),  # 12 21 12 21 12
        ([1, 2, 3, 4, 1, 2, 3, 4], 4, 0.2),  # 1234 2341 3412 4123 1234
        ([7, 7, 7], 4, 0.0),
        ([], 1, 0.0),
        ([5, 5, 6], 1, 1 / 3),
    ],
)
def test_by_hand(tokens: list[int], n: int, expected: float) -> None:
    assert repeated_ngrams(tokens, n) == pytest.approx(expected)


def test_n_is_at_least_one() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        repeated_ngrams([1, 2], 0)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 3), max_size=30), st.permutations([10, 11, 12, 13]))
def test_only_which_tokens_are_equal_counts(tokens: list[int], names: list[int]) -> None:
    share = repeated_ngrams(tokens)
    assert 0 <= share < 1
    assert repeated_ngrams([names[token] for token in tokens]) == share
