"""Figures of classification as metrics of the ``evaluate`` library."""

from __future__ import annotations

import math

import numpy as np
import pytest

# 4 rows of class 0 (3 right, 1 taken for 1), 3 of class 1 (2 right, 1 for 2), 3 of 2 (1 right, 2 for 0).
TRUE = [0, 0, 0, 0, 1, 1, 1, 2, 2, 2]

FOUND = [0, 0, 0, 1, 1, 1, 2, 2, 0, 0]


def test_the_metrics_of_evaluate(tmp_path):
    evaluate = pytest.importorskip("evaluate")
    from hf_align.evaluation.metrics.table import F1, Accuracy, MatthewsCorrelation

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
    both = evaluate.combine([Accuracy(**cache), MatthewsCorrelation(**cache)])
    assert both.compute(predictions=TRUE, references=TRUE) == {"accuracy": 1.0, "matthews_correlation": 1.0}
