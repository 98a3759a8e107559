"""Accuracy, F1 and Matthews' coefficient against values by hand and definitions of their own."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_align.statistics.metric_formulas import (
    accuracy,
    confusion_matrix,
    f1,
    matthews,
    precision_recall_f1,
)

# 4 rows of class 0 (3 right, 1 taken for 1), 3 of class 1 (2 right, 1 for 2), 3 of 2 (1 right, 2 for 0).
TRUE = [0, 0, 0, 0, 1, 1, 1, 2, 2, 2]

FOUND = [0, 0, 0, 1, 1, 1, 2, 2, 0, 0]

ROWS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=60)


def test_by_hand():
    matrix = confusion_matrix(TRUE, FOUND, 3)
    assert matrix.tolist() == [[3, 1, 0], [0, 2, 1], [2, 0, 1]]
    assert accuracy(matrix) == 0.6
    precision, recall, harmonic = precision_recall_f1(matrix)
    np.testing.assert_allclose(precision, [3 / 5, 2 / 3, 1 / 2])
    np.testing.assert_allclose(recall, [3 / 4, 2 / 3, 1 / 3])
    np.testing.assert_allclose(harmonic, [2 / 3, 2 / 3, 2 / 5])
    assert f1(matrix, "macro") == pytest.approx((2 / 3 + 2 / 3 + 2 / 5) / 3)
    assert f1(matrix, "micro") == pytest.approx(0.6)
    # (6*10 - (4*5 + 3*3 + 3*2)) / sqrt((100 - 38) (100 - 34))
    assert matthews(matrix) == pytest.approx(25 / math.sqrt(62 * 66))


def test_matthews_of_two_classes_is_the_textbook_formula():
    matrix = np.array([[50, 10], [5, 35]])
    tn, fp, fn, tp = 50, 10, 5, 35
    expected = (tp * tn - fp * fn) / math.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    assert matthews(matrix) == pytest.approx(expected)
    assert f1(matrix, "binary") == pytest.approx(2 * tp / (2 * tp + fp + fn))
    assert f1(matrix, "binary", positive=0) == pytest.approx(2 * tn / (2 * tn + fp + fn))


@settings(deadline=None, max_examples=60)
@given(ROWS)
def test_matthews_is_the_correlation_of_indicator_vectors(rows):
    true, found = (np.eye(4)[list(side)] for side in zip(*rows, strict=True))
    # Gorodkin's definition: covariances of the one-hot columns, summed over the classes.
    centred = [side - side.mean(axis=0) for side in (true, found)]
    covariance = (centred[0] * centred[1]).sum()
    spread = math.sqrt((centred[0] ** 2).sum() * (centred[1] ** 2).sum())
    expected = covariance / spread if spread > 1e-9 else 0.0
    matrix = confusion_matrix([a for a, _ in rows], [b for _, b in rows], 4)
    assert matthews(matrix) == pytest.approx(expected, abs=1e-9)


@settings(deadline=None, max_examples=60)
@given(ROWS)
def test_f1_from_counts_of_each_class(rows):
    hits = Counter(a for a, b in rows if a == b)
    sides = Counter(a for a, _ in rows) + Counter(b for _, b in rows)
    expected = sum(2 * hits[name] / sides[name] for name in sides) / len(sides)
    matrix = confusion_matrix([a for a, _ in rows], [b for _, b in rows], 4)
    assert f1(matrix, "macro") == pytest.approx(expected)


def test_edges():
    assert math.isnan(accuracy(confusion_matrix([], [], 2)))
    assert matthews(np.array([[5, 0], [3, 0]])) == 0, "always the same answer"
    # Squares of these counts are beyond 64 bits.
    assert matthews(np.array([[10**10, 0], [0, 10**10]])) == pytest.approx(1)
    with pytest.raises(ValueError, match="references: found 0 to 3, expected 0 to 2"):
        confusion_matrix([0, 3], [0, 1], 3)
    with pytest.raises(ValueError, match="2 references and 1 predictions"):
        confusion_matrix([0, 1], [0], 2)
