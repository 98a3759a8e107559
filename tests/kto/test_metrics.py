"""Advised weights and held-out metrics, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from hf_align.kto.metrics import balanced, kto_evaluation, labels


def test_the_advised_weights_bring_the_ratio_into_its_range() -> None:
    found = labels(300, 100, desirable_weight=1.0, undesirable_weight=1.0)
    assert found.ratio == pytest.approx(3.0) and not balanced(found)
    assert found.desirable_weights == pytest.approx([1 / 3, 4 / 9])
    assert found.undesirable_weights == pytest.approx([2.25, 3.0])
    for weight in found.desirable_weights:
        assert balanced(labels(300, 100, desirable_weight=weight, undesirable_weight=1.0))
    for weight in found.undesirable_weights:
        assert balanced(labels(300, 100, desirable_weight=1.0, undesirable_weight=weight))


def test_one_label_has_no_ratio() -> None:
    found = labels(5, 0, desirable_weight=1.0, undesirable_weight=1.0)
    assert found == {"desirable": 5, "undesirable": 0} and not balanced(found)


def test_held_out_metrics() -> None:
    details = {"rewards": np.array([1.0, 3.0, 0.0, 1.0]), "desirable": np.array([1, 1, 0, 0])}
    found = kto_evaluation({"eval_kl": 0.25}, details)
    assert found["rows"] == 4 and found["kl"] == 0.25
    assert found["desirable_reward"] == 2.0 and found["undesirable_reward"] == 0.5
    assert found["margin"] == 1.5
    # 1 > 0, 1 = 1, 3 > 0, 3 > 1
    assert found["auc"] == 3.5 / 4
    low, high = found["auc_interval"]
    assert low < found["auc"] < high


def test_metrics_of_one_label() -> None:
    found = kto_evaluation({}, {"rewards": np.array([1.0]), "desirable": np.array([True])})
    assert found["desirable_reward"] == 1.0 and "auc" not in found and "undesirable_reward" not in found
