"""A prompt with its answers, as the templates show it, and whatever of it is missing."""

from __future__ import annotations

import pytest

from hf_align.reporting.generation_view import (
    answer_view,
    best_and_worst,
    generation_view,
    reference_view,
    side_by_side,
)


@pytest.mark.parametrize(
    ("text", "stopped", "note", "kind", "missing"),
    [
        ("Oslo", True, "equals the reference, stopped by itself", "same", ""),
        (" Oslo\n", False, "equals the reference, cut off", "cut", ""),
        ("Rome", None, "", "", ""),
        ("", True, "stopped by itself", "", "an empty answer"),
        (None, None, "", "", "not generated"),
    ],
)
def test_an_answer(text, stopped, note, kind, missing) -> None:
    found = answer_view("After", text, stopped, "Oslo")
    assert (found["note"], found["kind"], found["missing"]) == (note, kind, missing)


def test_before_after_and_reference() -> None:
    item = {
        "prompt": "Where?",
        "source": "r:1",
        "before": "a",
        "after": "b",
        "after_reward": 0.5,
        "reference": "",
    }
    found = generation_view(item)
    assert [answer["name"] for answer in found["answers"]] == ["Before", "After, reward 0.5", "Reference"]
    assert found["answers"][2]["missing"] == "an empty reference" and found["prompt"] == "Where?"
    assert reference_view(None)["missing"] == "none"
    assert generation_view("no mapping")["answers"][0]["missing"] == "not generated"


def test_best_and_worst() -> None:
    names = [answer["name"] for answer in best_and_worst({"best": "x", "best_reward": 2})["answers"]]
    assert names == ["Best, reward 2", "Worst, reward –", "Reference"]


def test_models_side_by_side() -> None:
    found = side_by_side({"task": "t", "source": "r:1", "prompt": "p"}, {"a": "x", "b": " ", "c": None})
    assert found["source"] == "t, r:1"
    assert [answer["missing"] for answer in found["answers"]] == ["", "empty", "empty"]
