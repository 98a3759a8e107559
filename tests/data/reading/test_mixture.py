"""Mixture counts worked out by hand, and the invariants of repeating."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_align.data.reading.mixture import mixture_counts, mixture_indices
from hf_align.errors import UserError


@pytest.mark.parametrize(
    ("sizes", "weights", "exponent", "counts"),
    [
        ([1000, 10], [1, 1], 1.0, [1000, 10]),  # plain concatenation
        ([1000, 10], [3, 3], 1.0, [1000, 10]),  # only ratios of weights count
        ([1000, 10], [1, 5], 1.0, [1000, 50]),
        ([1000, 10], [5, 1], 1.0, [5000, 10]),
        # Shares 100 : 10 of the square roots of 10000 and 100: the larger once, the smaller ten times.
        ([10000, 100], [1, 1], 0.5, [10000, 1000]),
        ([10000, 100], [1, 0.5], 0.5, [10000, 500]),
        ([7], [2.5], 0.3, [7]),
    ],
)
def test_counts(sizes: list[int], weights: list[float], exponent: float, counts: list[int]) -> None:
    assert mixture_counts(sizes, weights, exponent) == counts


@given(
    sources=st.lists(st.tuples(st.integers(1, 5000), st.floats(0.1, 10)), min_size=1, max_size=5),
    exponent=st.floats(0.1, 1.0),
)
def test_no_row_is_lost_and_one_source_is_not_repeated(
    sources: list[tuple[int, float]], exponent: float
) -> None:
    sizes, weights = [size for size, _ in sources], [weight for _, weight in sources]
    counts = mixture_counts(sizes, weights, exponent)
    assert all(count >= size for count, size in zip(counts, sizes, strict=True))
    assert any(count == size for count, size in zip(counts, sizes, strict=True))
    # Shares are w n^a, up to the rounding to whole rows.
    relative = [
        count / (weight * size**exponent) for count, (size, weight) in zip(counts, sources, strict=True)
    ]
    slack = [0.5 / (weight * size**exponent) for size, weight in sources]
    assert max(relative) - min(relative) <= 2 * max(slack) * 1.001 + 1e-9


def test_values_that_are_not_positive_are_refused() -> None:
    for sizes, weights in (([0], [1.0]), ([1], [0.0])):
        with pytest.raises(ValueError, match="positive"):
            mixture_counts(sizes, weights, 1.0)


@pytest.mark.parametrize("weight", [1e12, 1e300])
def test_weights_that_differ_too_much_are_refused(weight: float) -> None:
    # Such counts would not fit into memory, and the second not even into 64 bits.
    with pytest.raises(UserError, match=r"an epoch would have 1e\S+ rows, by repeating those of 1,010"):
        mixture_counts([10, 1000], [weight, 1e-3], 1.0)


@given(size=st.integers(1, 50), count=st.integers(0, 200), seed=st.integers(0, 3))
def test_repeats_are_even(size: int, count: int, seed: int) -> None:
    indices = mixture_indices(size, count, np.random.default_rng(seed))
    times = np.bincount(indices, minlength=size)
    assert len(indices) == count
    assert len(times) == size
    assert times.max() - times.min() <= 1
    assert indices.tolist() == mixture_indices(size, count, np.random.default_rng(seed)).tolist()
