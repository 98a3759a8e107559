"""Accuracy, interval, calibration and length bias of a reward model, against hand arithmetic."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_align.statistics import calibration

LN3 = math.log(3)
"""sigma(ln 3) = 3 / 4."""
LN9 = math.log(9)
"""sigma(ln 9) = 9 / 10."""


def test_accuracy_is_strict_and_weighted() -> None:
    assert calibration.accuracy([1.0, 0.0, -1.0, 2.0], [1.0] * 4) == 0.5
    # A prompt with three pairs, of which one is right, and a prompt with one right pair: (1/3 + 1) / 2.
    assert calibration.accuracy([1.0, -1.0, 0.0, 2.0], [1 / 3, 1 / 3, 1 / 3, 1.0]) == pytest.approx(2 / 3)
    assert math.isnan(calibration.accuracy([], []))


def test_wilson_interval_of_published_values() -> None:
    # Newcombe 1998, Statistics in Medicine 17, table I, method 3: 81/263, 15/148, 0/20 and 1/29.
    for successes, count, low, high in (
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ):
        assert calibration.wilson_interval(successes / count, count) == pytest.approx((low, high), abs=5e-5)
    assert calibration.wilson_interval(math.nan, 0) == (0.0, 1.0)


def test_reliability_by_hand() -> None:
    # sigma(|ln 3|) = 0.75 lies in the bin from 0.75 to 0.8, sigma(|ln 9|) = 0.9 in the one from 0.9 to 0.95.
    # Nudged off the border between two bins, where rounding would decide.
    margins = [LN3 + 1e-6, LN3 + 1e-6, -LN3 - 1e-6, LN9 + 1e-6]
    table = calibration.reliability(margins, [1.0] * 4)
    assert [(row["pairs"], row["share"]) for row in table] == [(3, 0.75), (1, 0.25)]
    assert (table[0]["lower"], table[0]["upper"]) == pytest.approx((0.75, 0.8))
    assert table[0]["confidence"] == pytest.approx(0.75, abs=1e-6)
    assert table[0]["accuracy"] == pytest.approx(2 / 3)
    assert table[1]["accuracy"] == 1.0
    # 3/4 of the weight is off by 0.75 - 2/3, the rest by 1 - 0.9.
    ece = calibration.expected_calibration_error(margins, [1.0] * 4)
    assert ece == pytest.approx(0.75 * (0.75 - 2 / 3) + 0.25 * 0.1, abs=1e-5)


def test_a_tie_is_half_right_with_confidence_one_half() -> None:
    (row,) = calibration.reliability([0.0, 0.0, 0.0], [1.0] * 3)
    assert (row["confidence"], row["accuracy"], row["lower"], row["upper"]) == (0.5, 0.5, 0.5, 0.55)
    assert calibration.expected_calibration_error([0.0], [1.0]) == 0
    assert calibration.accuracy([0.0], [1.0]) == 0, "accuracy itself is strict"


def test_certainty_falls_into_the_last_bin() -> None:
    (row,) = calibration.reliability([1e4, 800.0], [1.0, 1.0])
    assert (row["upper"], row["confidence"], row["accuracy"]) == (1.0, 1.0, 1.0)


def test_accuracy_by_length_by_hand() -> None:
    # A model that likes long answers: right twice where the better one is longer, wrong where it is shorter.
    found = calibration.accuracy_by_length(
        [2.0, 1.0, -1.0, -3.0, 0.5], [1.0] * 5, [10, 20, -10, -20, 0], quantiles=2
    )
    assert found["longer_better"] == {"pairs": 2, "share": 0.4, "accuracy": 1.0, "mean_margin": 1.5}
    assert found["shorter_better"] == {"pairs": 2, "share": 0.4, "accuracy": 0.0, "mean_margin": -2.0}
    assert found["equal"]["pairs"] == 1
    # The median, 0, belongs to the lower half: -20, -10, 0 and 10, 20.
    lower, upper = found["quantiles"]
    assert (lower["lower"], lower["upper"], lower["pairs"]) == (-20, 0, 3)
    assert lower["accuracy"] == pytest.approx(1 / 3)
    assert (upper["lower"], upper["upper"], upper["accuracy"]) == (10, 20, 1.0)


def test_equal_differences_stay_together() -> None:
    found = calibration.accuracy_by_length([1.0] * 6, [1.0] * 6, [3, 3, 3, 3, 3, 9], quantiles=5)
    assert [(row["lower"], row["upper"], row["pairs"]) for row in found["quantiles"]] == [
        (3, 3, 5),
        (9, 9, 1),
    ]
    assert "equal" not in found and "shorter_better" not in found


def test_correlation_by_hand() -> None:
    # Deviations (-1, 0, 1) and (-1, 2, -1) have the covariance 0.
    assert calibration.correlation([1, 2, 3], [0, 3, 0]) == pytest.approx(0, abs=1e-12)
    assert calibration.correlation([1, 2, 3], [2, 4, 6]) == pytest.approx(1)
    # (-1, 0, 1) and (-4/3, -1/3, 5/3): 3 / sqrt(2 * 14/3).
    assert calibration.correlation([1, 2, 3], [0, 1, 3]) == pytest.approx(3 / math.sqrt(2 * 14 / 3))
    assert calibration.correlation([1, 1], [2, 3]) is None
    assert calibration.correlation([], []) is None


def test_distribution_by_hand() -> None:
    found = calibration.distribution([3.0, 4.0], [0.0, 1.0], [1.0, 3.0], bins=4)
    assert found["edges"] == [0, 1, 2, 3, 4]
    assert found["chosen"] == [0, 0, 0, 1.0]
    assert found["rejected"] == [0.25, 0.75, 0, 0]
    assert calibration.distribution([math.nan], [1.0], [1.0]) == {"edges": [], "chosen": [], "rejected": []}


def test_mean_and_deviation() -> None:
    assert calibration.mean_and_deviation([1.0, 3.0]) == {"mean": 2.0, "std": 1.0}
    assert math.isnan(calibration.mean_and_deviation([math.inf])["mean"])


def test_margins_that_are_no_numbers_count_as_wrong() -> None:
    found = calibration.reward_evaluation([math.nan, 1.0], [1.0, 1.0], [1, 1], scores=[1.0], lengths=[2])
    assert found["accuracy"] == 0.5
    assert found["not_finite"] == 1
    assert found["mean_margin"] == 1.0
    assert found["by_length"]["longer_better"]["mean_margin"] == 1.0
    assert sum(row["pairs"] for row in found["reliability"]) == 1
    assert found["score_length_correlation"] is None


def test_without_pairs_nothing_is_claimed() -> None:
    found = calibration.reward_evaluation([], [], [])
    assert math.isnan(found["accuracy"]) and math.isnan(found["ece"])
    assert found["accuracy_interval"] == [0.0, 1.0]
    assert found["by_length"] == {"quantiles": []}


def test_arrays_of_other_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="one length"):
        calibration.accuracy([1.0], [1.0, 1.0])


margins_and_weights = st.lists(
    st.tuples(st.floats(-20, 20), st.floats(0.01, 1.0), st.integers(-50, 50)), min_size=1, max_size=40
)


@settings(deadline=None, max_examples=60)
@given(margins_and_weights)
def test_invariants(rows: list[tuple[float, float, int]]) -> None:
    margins, weights, differences = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    found = calibration.reward_evaluation(margins, weights, differences)
    low, high = found["accuracy_interval"]
    assert 0 <= low <= found["accuracy"] + 1e-9 and found["accuracy"] - 1e-9 <= high <= 1
    assert 0 <= found["ece"] <= 1
    assert sum(row["share"] for row in found["reliability"]) == pytest.approx(1)
    assert sum(row["pairs"] for row in found["by_length"]["quantiles"]) == len(rows)
    for row in found["reliability"]:
        assert row["lower"] - 1e-9 <= row["confidence"] <= row["upper"] + 1e-9
    # Weights are relative, and the order of the pairs does not matter.
    order = np.random.default_rng(0).permutation(len(rows))
    again = calibration.reward_evaluation(margins[order], 2 * weights[order], differences[order])
    for name in ("accuracy", "ece", "mean_margin"):
        assert again[name] == pytest.approx(found[name], abs=1e-9)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10_000))
def test_a_model_that_says_what_is_so_is_calibrated(seed: int) -> None:
    """Pairs that come out as sigma(margin) says: the error goes to zero with their number."""
    rng = np.random.default_rng(seed)
    strength = rng.uniform(0, 4, 20_000)
    wins = rng.random(20_000) < 1 / (1 + np.exp(-strength))
    margins = np.where(wins, strength, -strength)
    assert calibration.expected_calibration_error(margins, np.ones(20_000)) < 0.02
    assert calibration.expected_calibration_error(3 * margins, np.ones(20_000)) > 0.05, "overconfident"
