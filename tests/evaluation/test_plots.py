"""Drawings of an evaluation: models beside each other, and subjects of a task."""

from __future__ import annotations

from typing import Any

from hf_align.evaluation.plots import MOST_SUBJECTS, subject_plot, task_plot


def metrics(accuracy: Any, subjects: int = 0) -> dict[str, Any]:
    return {
        "accuracy": accuracy,
        "accuracy_interval": [0.1, 0.9],
        "chance": 0.25,
        "subjects": {f"subject {i}": {"accuracy": 0.1 * i} for i in range(subjects)},
    }


def test_several_models_with_their_intervals() -> None:
    plot = task_plot("multiple_choice", "mmlu", {"a": metrics(0.25), "b": metrics(0.5)}, "p")
    assert plot is not None and "a 25" in plot.summary and "b 50" in plot.summary
    assert "a random choice" in plot.note and "<svg" in plot.forms["small"]
    assert task_plot("multiple_choice", "mmlu", {"a": metrics(0.25), "b": metrics(None)}, "p") is None


def test_subjects() -> None:
    models = {"a": metrics(0.2, subjects=4), "b": metrics(0.3, subjects=4)}
    plot = subject_plot("multiple_choice", "mmlu", models, "p")
    assert plot is not None and "subject 3" in "".join(plot.forms.values())
    for count in (1, MOST_SUBJECTS + 1):
        assert subject_plot("multiple_choice", "mmlu", {"a": metrics(0.2, count)}, "p") is None
