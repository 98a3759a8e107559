"""The report and the model card of a classification run: figures, drawing, mistakes, and what is missing."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hf_align.evaluation.classification import classification_evaluation
from hf_align.reporting.classification_plots import MOST_CLASSES, confusion_plot
from hf_align.reporting.classification_view import classification_view
from hf_align.reporting.html import write_report
from hf_align.reporting.model_card import write_model_card
from hf_align.reporting.run_view import facts, method
from hf_align.types import LabelledText

NAMES = ["bills & taxes", "<b>food</b>", "travel"]


def evaluation(right: float) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 60)
    predictions = np.where(rng.random(60) < right, labels, (labels + 1) % 3)
    details = {
        "numbers": np.arange(60),
        "labels": labels,
        "predictions": predictions,
        "probabilities": rng.random(60),
    }
    texts = [LabelledText(f"mail:{i}", f"text <i>{i}</i>", None, NAMES[n]) for i, n in enumerate(labels)]
    return classification_evaluation(details, NAMES, texts)


@pytest.fixture
def record() -> dict[str, Any]:
    return {
        "command": "classify",
        "status": "completed",
        "recipe": {"model_name_or_path": "models/enc", "output_dir": "runs/x", "freeze_base": True},
        "labels": NAMES,
        "train_labels": [20, 30, 1200],
        "model": {"init_from": "embeddings", "attention": "padded"},
        "classification": {"before": evaluation(0.3), "after": evaluation(0.9)},
        "final_metrics": {"eval_loss": 0.4, "eval_loss_before": 1.1},
    }


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


def test_page_and_card(record, tmp_path: Path):
    (tmp_path / "run.json").write_text(json.dumps(record))
    page = write_report(tmp_path).read_text()
    assert "Confusion matrix" in page and "The most confident mistakes" in page
    # Names and texts of the data are shown as they are, never as markup.
    assert "<b>food</b>" not in page and "&lt;b&gt;food&lt;/b&gt;" in page
    assert "<i>" not in page
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    card = write_model_card(tmp_path).read_text()
    assert "text-classification" in card and "AutoModelForSequenceClassification" in card
    assert r"\<b\>food\</b\>" in card and "| Accuracy |" in card


def test_whatever_is_missing(record):
    assert classification_view({"command": "sft"}) is None
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


def test_the_drawing_says_what_it_shows():
    plot = confusion_plot({"confusion": [[8, 2], [1, 9]]}, ["a", "b"])
    assert plot.summary == (
        "17 of 20 held-out rows are on the diagonal; the most frequent mistake is b for a (2)."
    )
    many = [[0] * (MOST_CLASSES + 1)] * (MOST_CLASSES + 1)
    assert confusion_plot({"confusion": many}, [str(i) for i in range(MOST_CLASSES + 1)]) is None
