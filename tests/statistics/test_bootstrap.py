"""Bootstrap intervals."""

from __future__ import annotations

import numpy as np
import pytest

from hf_align.statistics.bootstrap import bootstrap_interval


def test_bootstrap_interval_of_a_mean():
    rows = np.array([0.0] * 50 + [1.0] * 50)
    low, high = bootstrap_interval(rows, lambda sums: sums[:, 0] / 100, seed=1)
    # The normal interval of a share of one half among 100.
    assert [low, high] == pytest.approx([0.402, 0.598], abs=0.015)
    assert bootstrap_interval(rows, lambda sums: sums[:, 0] / 100, seed=1) == [low, high]
    assert bootstrap_interval(rows[:1], lambda sums: sums[:, 0], seed=1) is None


def test_ratios_are_drawn_row_by_row_and_one_row_says_nothing():
    # Every row has the same ratio, so that no draw can change it.
    rows = np.array([[1.0, 2.0], [3.0, 6.0], [10.0, 20.0]])
    assert bootstrap_interval(rows, lambda sums: sums[:, 0] / sums[:, 1], seed=0) == [0.5, 0.5]
    assert bootstrap_interval([1.0], lambda sums: sums[:, 0], seed=0) is None


def test_the_seed_and_nothing_else_chooses_the_draws():
    rows = np.arange(40.0)
    first, again, other = (bootstrap_interval(rows, lambda s: s[:, 0], seed=seed) for seed in (1, 1, 2))
    assert first == again != other
    low, high = bootstrap_interval(rows, lambda s: s[:, 0], seed=1, confidence=0.5)
    assert first[0] < low < high < first[1]
