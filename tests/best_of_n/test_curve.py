"""The curve of Best-of-N: by hand for a few samples, and what holds for any."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_align.best_of_n.curve import best_of_n_curve
from hf_align.statistics.bootstrap import mean_and_interval

REWARDS = st.integers(1, 4).flatmap(
    lambda samples: st.lists(
        st.lists(st.floats(-100, 100), min_size=samples, max_size=samples), min_size=1, max_size=5
    )
)


def test_by_hand():
    curve = best_of_n_curve([[1.0, 2.0, 4.0], [0.0, 0.0, 3.0]])
    # n = 2: the pairs' best are 2, 4, 4 (mean 10/3) and 0, 3, 3 (mean 2).
    assert [entry["n"] for entry in curve] == [1, 2, 3]
    assert [entry["reward"] for entry in curve] == pytest.approx([(7 / 3 + 1) / 2, (10 / 3 + 2) / 2, 3.5])
    assert [entry["kl_bound"] for entry in curve] == pytest.approx(
        [0.0, math.log(2) - 1 / 2, math.log(3) - 2 / 3]
    )


@settings(deadline=None, max_examples=40)
@given(REWARDS)
def test_the_mean_over_all_choices_of_n(rewards):
    for entry in best_of_n_curve(rewards):
        best = [np.mean([max(c) for c in itertools.combinations(row, entry["n"])]) for row in rewards]
        assert entry["reward"] == pytest.approx(np.mean(best), abs=1e-8)


@settings(deadline=None, max_examples=40)
@given(REWARDS)
def test_it_never_falls_and_the_interval_holds_it_in_range(rewards):
    curve = best_of_n_curve(rewards)
    for before, after in itertools.pairwise(curve):
        assert after["reward"] >= before["reward"] - 1e-9
        assert after["kl_bound"] > before["kl_bound"]
    for entry in curve:
        if len(rewards) == 1:
            assert entry["interval"] is None
        else:
            low, high = entry["interval"]
            assert min(map(min, rewards)) - 1e-9 <= low <= high <= max(map(max, rewards)) + 1e-9


def test_the_interval_is_that_of_a_mean_over_prompts():
    rng = np.random.default_rng(0)
    first = rng.normal(0.0, 2.0, 400)
    low, high = best_of_n_curve(first[:, None])[0]["interval"]
    error = first.std(ddof=1) / math.sqrt(400)
    assert high - low == pytest.approx(2 * 1.96 * error, rel=0.1)
    assert (low + high) / 2 == pytest.approx(first.mean(), abs=0.2 * error)


def test_the_same_seed_gives_the_same_interval():
    rewards = np.random.default_rng(1).normal(size=(9, 4))
    assert best_of_n_curve(rewards, seed=3) == best_of_n_curve(rewards, seed=3)
    assert best_of_n_curve(rewards, seed=3) != best_of_n_curve(rewards, seed=4)


@pytest.mark.parametrize("rewards", [[], [[]], [1.0, 2.0]])
def test_wrong_shapes(rewards):
    with pytest.raises(ValueError, match="expected \\(P, N\\)"):
        best_of_n_curve(rewards)


def test_rewards_that_are_no_numbers():
    with pytest.raises(ValueError, match="not numbers"):
        best_of_n_curve([[1.0, float("nan")]])


def test_a_mean_with_its_interval():
    mean, interval = mean_and_interval([0.0, 1.0, 0.0, 1.0])
    assert mean == 0.5
    assert interval is not None
    # Of four draws from two equal halves, 1 in 16 are all the same: the middle 95 % reaches both ends.
    assert interval == (0.0, 1.0)
    assert mean_and_interval([2.0, 2.0, 2.0]) == (2.0, (2.0, 2.0))
    assert mean_and_interval([3.0]) == (3.0, None)
    many = [float(i % 2) for i in range(400)]
    low, high = mean_and_interval(many)[1] or (0.0, 0.0)
    # Normal approximation: 1.96 standard errors of 0.5 / 20.
    assert (low, high) == pytest.approx((0.451, 0.549), abs=0.01)
    with pytest.raises(ValueError, match="found the shape"):
        mean_and_interval([])
