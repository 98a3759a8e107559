"""The report and the model card of a classification run: metrics, drawing, mistakes, and what is missing."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from helpers.classification_records import NAMES, classification_record

from hf_align.classify.report import classification_view
from hf_align.reporting.run_view import facts, method


@pytest.fixture
def record() -> dict[str, Any]:
    return classification_record()


def test_the_view_shows_what_was_found(record):
    view = classification_view(record)
    after = record["classification"]["after"]
    assert view["rows"][0]["name"] == "Accuracy" and len(view["rows"]) == 3
    assert view["rows"][0]["cells"][1] == f"{100 * after['accuracy']:.1f} %"
    assert " to " in view["rows"][0]["cells"][2]
    assert dict(view["settings"])["Classes, with training rows"].endswith("travel (1,200)")
    assert "token embeddings" in dict(view["settings"])["Begins with"]
    assert [row[0] for row in view["confusion"]["rows"]] == NAMES
    assert [[int(cell) for cell in row[1:]] for row in view["confusion"]["rows"]] == after["confusion"]
    assert len(view["classes"]) == 3 and len(view["mistakes"]) == len(after["mistakes"]) > 0
    assert method(record) == "a head on frozen features"
    accuracy = next(fact for fact in facts(record, []) if fact.label == "Held-out accuracy")
    assert "→" in accuracy.value and accuracy.detail.startswith("95 %")


def test_whatever_is_missing(record):
    empty = classification_view({"command": "classify"})
    assert empty["rows"] == empty["plots"] == empty["mistakes"] == [] and empty["confusion"] is None
    for path in (("labels",), ("train_labels",), ("model",), ("classification", "before")):
        partial = copy.deepcopy(record)
        inner = partial
        for key in path[:-1]:
            inner = inner[key]
        del inner[path[-1]]
        assert classification_view(partial) is not None
    broken = copy.deepcopy(record)
    broken["classification"]["after"]["confusion"] = [[1, 2], [3]]
    view = classification_view(broken)
    assert view["plots"] == [] and view["confusion"] is None and view["classes"]


def test_two_classes_have_an_f1_of_their_own(record):
    record["labels"] = ["no", "yes"]
    assert [row["name"] for row in classification_view(record)["rows"]][2] == "F1 of yes"
