"""Figures in words: tables, shares and losses, and differences of two models with their intervals."""

from __future__ import annotations

import numpy as np
import pytest

from hf_align.evaluation.results import (
    difference_written,
    higher_is_better,
    main_metric,
    table_lines,
    with_differences,
    written,
)


def metrics(accuracy: float) -> dict[str, object]:
    return {"accuracy": accuracy, "questions": 100, "accuracy_interval": [accuracy - 0.1, accuracy + 0.1]}


def test_a_table_has_a_line_a_metric_and_the_difference_last() -> None:
    results = {"multiple_choice": {"t": {"a": metrics(0.5), "b": metrics(0.75)}}}
    items = {
        ("multiple_choice", "t", name): np.stack([np.arange(100) < 100 * share, np.ones(100)], axis=1)
        for name, share in (("a", 0.5), ("b", 0.75))
    }
    with_differences(results, items, ["a", "b"], seed=0)
    assert main_metric("multiple_choice", results["multiple_choice"]["t"]) == "accuracy"
    assert higher_is_better("multiple_choice", results["multiple_choice"]["t"], "accuracy")
    difference = results["multiple_choice"]["t"]["b"]["difference"]
    low, high = difference["interval"]
    assert difference["value"] == pytest.approx(0.25) and 0.15 < low < 0.25 < high < 0.35
    lines = table_lines(results, ["a", "b"])
    assert lines[0].split()[-2:] == ["a", "b"] and set(lines[1]) == {"-"}
    assert "50.0" in lines[2] and "75.0" in lines[2] and "difference" in lines[-1]
    assert len(lines[1]) == max(map(len, lines))


def test_a_metric_that_is_missing_is_a_dash() -> None:
    assert written("multiple_choice", {}, "accuracy") == written("perplexity", {}, "perplexity")
    assert difference_written("multiple_choice", {}) == ""
