"""Exact match, F1, ROUGE-L and BLEU through the ``evaluate`` library."""

from __future__ import annotations

import pytest

from hf_align.evaluation.metrics.generation import METRICS, ExactMatch, TokenF1


def test_metrics_are_those_of_the_evaluate_library():
    import evaluate

    assert all(issubclass(metric, evaluate.Metric) for metric in METRICS.values())
    metric = ExactMatch()
    metric.add(prediction="Oslo", reference=["oslo"])
    metric.add_batch(predictions=["Rome", "Lima"], references=[["Oslo"], ["lima", "x"]])
    assert metric.compute() == {"exact_match": pytest.approx(2 / 3)}
    both = evaluate.combine([ExactMatch(), TokenF1()])
    found = both.compute(predictions=["red lamps"], references=[["lamps"]])
    assert found == {"exact_match": 0.0, "f1": pytest.approx(2 / 3)}
