"""What an evaluation of a classifier found, its most confident mistakes first."""

from __future__ import annotations

import numpy as np
import pytest

from hf_align.classify.metrics import MISTAKES, classification_evaluation, classification_metrics
from hf_align.types import LabelledText


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
    assert found["accuracy"] == classification_metrics(details, 2)["accuracy"]
    assert found["per_class"][1] == {"label": "b", "rows": 0, "precision": 0.0, "recall": 0.0, "f1": 0.0}
    mistakes = found["mistakes"]
    assert len(mistakes) == MISTAKES
    # The two most confident ones, as confident as each other: rows 6 and 5, numbered backwards.
    assert [item["source"] for item in mistakes[:2]] == ["rows:5", "rows:6"]
    assert mistakes[0]["probability"] == pytest.approx(0.9) and len(mistakes[0]["text"]) == 400
    assert (mistakes[0]["label"], mistakes[0]["predicted"], mistakes[0]["pair"]) == ("a", "b", "second")
