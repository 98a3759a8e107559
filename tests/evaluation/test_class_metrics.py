"""Metrics of classification against values by hand and formulas of their own, and through ``evaluate``."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_align.evaluation.classification import MISTAKES, classification_evaluation, figures
from hf_align.evaluation.metrics.formulas import (
    accuracy,
    confusion_matrix,
    f1,
    matthews,
    precision_recall_f1,
)
from hf_align.types import LabelledText

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


def test_the_metrics_of_evaluate(tmp_path):
    evaluate = pytest.importorskip("evaluate")
    from hf_align.evaluation.metrics.metrics import F1, METRICS, Accuracy, MatthewsCorrelation, load_metric

    cache = {"cache_dir": str(tmp_path)}
    assert Accuracy(**cache).compute(predictions=FOUND, references=TRUE) == {"accuracy": 0.6}
    metric = MatthewsCorrelation(**cache)
    for start in range(0, 10, 4):
        metric.add_batch(predictions=FOUND[start : start + 4], references=np.array(TRUE[start : start + 4]))
    assert metric.compute()["matthews_correlation"] == pytest.approx(25 / math.sqrt(62 * 66))
    f1_metric = F1(**cache)
    macro = f1_metric.compute(predictions=FOUND, references=TRUE, average="macro")
    assert macro["f1"] == pytest.approx((2 / 3 + 2 / 3 + 2 / 5) / 3)
    assert F1(**cache).compute(predictions=[1, 0, 1], references=[1, 1, 0])["f1"] == pytest.approx(0.5)
    assert F1(**cache).compute(predictions=[0], references=[0])["f1"] == 0, "no row of class 1"
    with pytest.raises(ValueError, match="needs two classes, found 3"):
        F1(**cache).compute(predictions=FOUND, references=TRUE)
    with pytest.raises(ValueError, match="average: found 'weighted'"):
        F1(**cache).compute(predictions=[0], references=[0], average="weighted")
    both = evaluate.combine([load_metric(name, **cache) for name in ("accuracy", "matthews_correlation")])
    assert both.compute(predictions=TRUE, references=TRUE) == {"accuracy": 1.0, "matthews_correlation": 1.0}
    assert set(METRICS) == {"accuracy", "f1", "matthews_correlation"}


def test_what_an_evaluation_says():
    count = 20
    details = {
        "numbers": np.arange(count)[::-1].astype(np.float32),
        "labels": np.zeros(count, dtype=np.float32),
        "predictions": np.array([1.0] * 15 + [0.0] * 5, dtype=np.float32),
        "probabilities": np.array([*np.linspace(0.5, 0.9, 14), 0.9, *[0.99] * 5], dtype=np.float32),
    }
    texts = [LabelledText(f"rows:{i}", "x" * 1000, "second" if i else None, "a") for i in range(count)]
    found = classification_evaluation(details, ["a", "b"], texts)
    assert found["rows"] == 20 and found["accuracy"] == 0.25 and found["confusion"] == [[5, 15], [0, 0]]
    assert found["largest_class_share"] == 1
    assert found["accuracy"] == figures(details, 2)["accuracy"]
    assert found["per_class"][1] == {"label": "b", "rows": 0, "precision": 0.0, "recall": 0.0, "f1": 0.0}
    mistakes = found["mistakes"]
    assert len(mistakes) == MISTAKES
    # The two most confident ones, as confident as each other: rows 6 and 5, numbered backwards.
    assert [item["source"] for item in mistakes[:2]] == ["rows:5", "rows:6"]
    assert mistakes[0]["probability"] == pytest.approx(0.9) and len(mistakes[0]["text"]) == 400
    assert (mistakes[0]["label"], mistakes[0]["predicted"], mistakes[0]["pair"]) == ("a", "b", "second")
