"""What each stage counts, divides by and reports."""

from __future__ import annotations

import math

import numpy as np
import pytest
from helpers.comparisons import random_comparison
from helpers.tiny_models import random_rows

from hf_align.classify.objective import classification_task
from hf_align.training import tasks
from hf_align.types import LabelledRow, LossOutput

LABELLED = LabelledRow(np.array([3, 4], np.int32), np.zeros(2, bool), label=1, number=0)


@pytest.mark.parametrize("packed", [True, False])
def test_units_and_fillers(packed: bool) -> None:
    made = {
        "target_tokens": (tasks.language_model_task(packed=packed, pad_token_id=0), random_rows([5, 4])[0]),
        "prompts": (
            tasks.comparison_task(
                lambda *_: LossOutput(0, 0), packed=packed, share_prefix=packed, pad_token_id=0
            ),
            random_comparison(3, (4, 2)),
        ),
        "rows": (
            classification_task(packed=packed, pad_token_id=0, segment_ids=False, classes=2),
            LABELLED,
        ),
    }
    for name, (task, row) in made.items():
        assert task.unit_name == name and task.padded is not packed
        assert task.units(row) == (row.target_tokens if name == "target_tokens" else 1)
        # A rank without rows computes the filler and adds nothing.
        task.collate([task.filler(), row])
    language, _ = made["target_tokens"]
    assert language.units(language.filler()) == 0
    rows, _ = made["rows"]
    assert rows.units(rows.filler()) == 0


def test_metrics_by_hand() -> None:
    language = tasks.language_model_task(packed=True, pad_token_id=0)
    found = language.eval_metrics(2.0, 8, {"correct": 6.0}, {})
    assert found == {
        "loss": 2.0, "perplexity": pytest.approx(math.exp(2)), "token_accuracy": 0.75, "target_tokens": 8
    }  # fmt: skip
    compared = tasks.comparison_metrics(0.5, 4, {"margin": 2.0}, {})
    assert compared == {"loss": 0.5, "margin": 0.5, "prompts": 4}
    labelled = classification_task(packed=True, pad_token_id=0, segment_ids=False, classes=2)
    details = {"labels": np.array([0, 1, 1, 1]), "predictions": np.array([0, 1, 0, 1])}
    assert labelled.eval_metrics(1.0, 4, {}, details)["accuracy"] == 0.75
    assert labelled.train_metrics is not None and labelled.train_metrics({"correct": 3.0}, 4) == {
        "accuracy": 0.75
    }
