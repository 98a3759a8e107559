"""What a classification run adds to the report: metrics, the confusion matrix, each class, the mistakes.

Reads the run record like the rest of the page, and copes with whatever is missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hf_align.classify.plots import MOST_CLASSES, confusion_plot
from hf_align.classify.record import ClassifyRecord
from hf_align.reporting.held_out import accuracy_fact, held_out_row, merged_setting
from hf_align.reporting.run_view import listing, mapping
from hf_align.reporting.stage_parts import ReportPart
from hf_align.runs import formatting

Row = Mapping[str, Any]

COLUMNS = ["held-out rows", "before", "after", "95 % interval"]
CLASS_COLUMNS = ["class", "rows", "precision", "recall", "F1"]
_STARTS = {
    "weights": "the model's weights, with a new head where it had none",
    "embeddings": "the model's token embeddings; everything else was drawn at random",
    "random": "random weights throughout",
}


def classification_view(record: Row) -> dict[str, Any]:
    """``settings``, ``columns``, ``rows``, ``notes`` and ``plots`` as those of a preference run; the tables
    ``confusion`` and ``classes``; ``mistakes``."""
    found = evaluation(record)
    names = [str(name) for name in ClassifyRecord.of(record).labels]
    plot = confusion_plot(found, names)
    return {
        "label": "Held-out metrics before and after training",
        "settings": settings(record),
        "columns": COLUMNS,
        "rows": held_out(record),
        "notes": notes(record),
        "plots": [plot] if plot is not None else [],
        "displacement": [],
        "class_columns": CLASS_COLUMNS,
        "classes": per_class(record),
        "confusion": _confusion_table(found, names),
        "mistakes": [_mistake(mapping(item)) for item in listing(found.get("mistakes"))],
    }


def evaluation(record: Row) -> dict[str, Any]:
    """The last evaluation there is."""
    both = ClassifyRecord.of(record).classification
    return both.after or both.before


def settings(record: Row) -> list[tuple[str, str]]:
    """Classes, start and what was saved, as (what, in words)."""
    record = ClassifyRecord.of(record)
    names = [str(name) for name in record.labels]
    counts = record.train_labels
    shares = [
        f"{name} ({formatting.count(count)})" for name, count in zip(names, counts, strict=False)
    ] or names
    words = [("Classes, with training rows", ", ".join(shares))] if shares else []
    model = record.model
    if model.init_from in _STARTS:
        words.append(("Begins with", _STARTS[model.init_from]))
    return words + merged_setting(record, "largest_logit_difference", "logits")


def held_out(record: Row) -> list[dict[str, Any]]:
    """Rows of ``name`` and ``cells`` (before, after, interval after) with what is known."""
    record = ClassifyRecord.of(record)
    both = record.classification
    before, after = both.before, both.after
    if not before and not after:
        return []
    shown = [
        held_out_row("Accuracy", before, after, "accuracy", formatting.share),
        held_out_row("F1, mean over the classes", before, after, "f1_macro", formatting.loss),
        held_out_row("Matthews' correlation", before, after, "matthews", formatting.signed_loss),
    ]
    names = record.labels
    if len(names) == 2:
        shown.insert(2, held_out_row(f"F1 of {names[1]}", before, after, "f1", formatting.loss))
    return shown


def notes(record: Row) -> list[str]:
    """What the metrics rest on, as sentences."""
    found = evaluation(record)
    if not found:
        return []
    return [
        f"{formatting.count(found.get('rows'))} held-out rows, of which "
        f"{formatting.share(found.get('largest_class_share'))} are of the largest class. The interval is "
        "Wilson's for that many rows: it says what other rows would change, not another seed."
    ]


def per_class(record: Row) -> list[list[str]]:
    """Cells of ``CLASS_COLUMNS`` for each class."""
    return [
        [
            str(row.get("label")),
            formatting.count(row.get("rows")),
            *(formatting.share(row.get(key)) for key in ("precision", "recall")),
            formatting.loss(row.get("f1")),
        ]
        for row in map(mapping, listing(evaluation(record).get("per_class")))
    ]


def _confusion_table(found: Row, names: list[str]) -> dict[str, Any]:
    matrix = [listing(row) for row in listing(found.get("confusion"))]
    if not names or len(matrix) != len(names) or len(names) > MOST_CLASSES:
        return None
    rows = [[name, *map(formatting.count, row)] for name, row in zip(names, matrix, strict=True)]
    return {"columns": ["true class", *names], "rows": rows}


def _mistake(item: Row) -> dict[str, str]:
    return {
        "source": str(item.get("source") or ""),
        "text": "\n\n".join(str(item[key]) for key in ("text", "pair") if item.get(key)),
        "label": str(item.get("label")),
        "predicted": str(item.get("predicted")),
        "probability": formatting.share(item.get("probability")),
    }


REPORT = ReportPart(
    view=lambda record, rows, run_dir: classification_view(record),
    template="classify/report.html.jinja",
    held_out_facts=lambda record: accuracy_fact(ClassifyRecord.of(record).classification),
)
