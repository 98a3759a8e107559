"""The page of an evaluation: tables and drawings from whatever the record holds."""

from __future__ import annotations

from typing import Any

from hf_align.evaluation.report import evaluation_facts, evaluation_title, evaluation_view


def record(**results: Any) -> dict[str, Any]:
    models = [{"name": "base", "parameters": 135_000_000, "precision": "fp32"}, {"name": "tuned"}]
    return {"command": "evaluate", "evaluation": {"models": models, "results": results}}


ACCURACY = {
    "base": {"questions": 8, "accuracy": 0.25, "accuracy_interval": [0.1, 0.5], "chance": 0.25, "shots": 2.0},
    "tuned": {
        "questions": 8,
        "accuracy": 0.5,
        "accuracy_interval": [0.2, 0.8],
        "chance": 0.25,
        "shots": 2.0,
        "difference": {"value": 0.25, "interval": [-0.1, 0.6]},
    },
}


def test_a_table_with_intervals_and_differences():
    view = evaluation_view(record(multiple_choice={"mmlu": ACCURACY}))
    assert view is not None
    (section,) = view["sections"]
    (task,) = section["tasks"]
    assert task["columns"] == ["model", "questions", "accuracy", "accuracy, difference"]
    assert [(row["name"], row["cells"]) for row in task["rows"]] == [
        ("base", ["8", "25.0 % [10.0, 50.0]", ""]),
        ("tuned", ["8", "50.0 % [20.0, 80.0]", "+25.0 points [-10.0, +60.0]"]),
    ]
    (plot,) = task["plots"]
    assert "tuned 50.0 % [20.0, 80.0]" in plot.summary
    drawing = str(plot.forms["small"])
    # Colours that the page's style sheet knows, and no others.
    assert "var(--series-1)" in drawing and "var(--run-" not in drawing


def test_facts_name_the_best_model():
    lower = {"base": {"bits_per_byte": 1.5}, "tuned": {"bits_per_byte": 0.5}}
    facts = evaluation_facts(record(multiple_choice={"mmlu": ACCURACY}, perplexity={"orders": lower}))
    assert [(fact.label, fact.value, fact.detail) for fact in facts] == [
        ("mmlu", "50.0 %", "accuracy, tuned"),
        ("orders", "0.5", "bits per byte, tuned"),
    ]
    assert evaluation_title(record()) == "base and tuned"


def test_records_that_are_partial_or_of_another_kind():
    assert evaluation_view({"command": "evaluate"})["sections"] == []
    assert evaluation_facts({"command": "evaluate"}) == []
    assert evaluation_title({"command": "evaluate"}) == "evaluation"
    broken = record(multiple_choice={"mmlu": {"base": {}, "tuned": {"questions": 1}}}, unknown={"x": 1})
    assert len(evaluation_view(broken)["sections"]) == 1
