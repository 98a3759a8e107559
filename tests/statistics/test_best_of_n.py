from __future__ import annotations

import math
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_align.statistics.best_of_n import best_of_n_kl_bound, expected_best_of_n


def test_by_hand() -> None:
    # Of 1, 2, 4 two are drawn: best 2, 4, 4.
    assert expected_best_of_n([4.0, 1.0, 2.0], 2) == pytest.approx(10 / 3)
    assert expected_best_of_n([4.0, 1.0, 2.0], 1) == pytest.approx(7 / 3)
    assert expected_best_of_n([4.0, 1.0, 2.0], 3) == pytest.approx(4.0)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(-10, 10), min_size=1, max_size=7), st.data())
def test_it_is_the_mean_over_all_subsets(rewards: list[float], data) -> None:
    n = data.draw(st.integers(1, len(rewards)))
    best = [max(subset) for subset in combinations(rewards, n)]
    assert expected_best_of_n(rewards, n) == pytest.approx(sum(best) / len(best), rel=1e-9, abs=1e-9)


def test_thousands_of_samples_do_not_overflow() -> None:
    rewards = [i / 5000 for i in range(5001)]
    # The largest of n uniform numbers has the mean n / (n + 1).
    assert expected_best_of_n(rewards, 100) == pytest.approx(100 / 101, abs=1e-3)


def test_bad_input_is_refused() -> None:
    for n in (0, 3):
        with pytest.raises(ValueError, match="expected 1 to 2"):
            expected_best_of_n([1.0, 2.0], n)
    with pytest.raises(ValueError, match="not numbers"):
        expected_best_of_n([1.0, math.nan], 1)
    with pytest.raises(ValueError, match="at least 1"):
        best_of_n_kl_bound(0)


def test_the_bound() -> None:
    assert best_of_n_kl_bound(1) == 0
    assert best_of_n_kl_bound(4) == pytest.approx(math.log(4) - 0.75)
