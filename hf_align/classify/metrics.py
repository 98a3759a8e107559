"""What an evaluation of a classifier found: headlines, metrics of each class, the most confident mistakes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hf_align.statistics.calibration import wilson_interval
from hf_align.statistics.metric_formulas import (
    accuracy,
    confusion_matrix,
    f1,
    matthews,
    precision_recall_f1,
)

if TYPE_CHECKING:
    from hf_align.types import LabelledText

Details = Mapping[str, npt.NDArray[Any]]

MISTAKES = 12
"""Mistakes that are shown, the most confident first."""
SHOWN_CHARACTERS = 400


def classification_metrics(details: Details, classes: int) -> dict[str, float]:
    """``accuracy``, ``f1_macro`` and ``matthews``, and ``f1`` of class 1 where there are two.

    ``details``: ``labels`` and ``predictions`` (B,) of all rows.
    """
    matrix = confusion_matrix(details["labels"], details["predictions"], classes)
    found = {"accuracy": accuracy(matrix), "f1_macro": f1(matrix, "macro"), "matthews": matthews(matrix)}
    return found | ({"f1": f1(matrix, "binary")} if classes == 2 else {})


def classification_evaluation(
    details: Details, labels: Sequence[str], texts: Sequence[LabelledText]
) -> dict[str, Any]:
    """Everything in one dictionary that JSON can hold.

    ``details``: ``numbers`` (which of ``texts``), ``labels``, ``predictions`` and ``probabilities`` of what
    was predicted, (B,) each. ``confusion[i][j]``: rows of class i taken for class j. The interval is Wilson's
    for that many rows: it says what other rows would change, not another seed.
    """
    matrix = confusion_matrix(details["labels"], details["predictions"], len(labels))
    precision, recall, harmonic = precision_recall_f1(matrix)
    support = matrix.sum(axis=1)
    rows = int(matrix.sum())
    found = classification_metrics(details, len(labels))
    return {
        "rows": rows,
        **found,
        "accuracy_interval": list(wilson_interval(found["accuracy"], rows)),
        "largest_class_share": float(support.max() / rows) if rows else 0.0,
        "confusion": matrix.tolist(),
        "per_class": [
            {
                "label": name,
                "rows": int(support[i]),
                "precision": float(precision[i]),
                "recall": float(recall[i]),
                "f1": float(harmonic[i]),
            }
            for i, name in enumerate(labels)
        ],
        "mistakes": _mistakes(details, labels, texts),
    }


def _mistakes(details: Details, labels: Sequence[str], texts: Sequence[LabelledText]) -> list[dict[str, Any]]:
    wrong = np.flatnonzero(details["labels"] != details["predictions"])
    # By the row's number where two are as confident, so that batching does not change the choice.
    order = np.lexsort((details["numbers"][wrong], -details["probabilities"][wrong]))
    shown = []
    for place in wrong[order][:MISTAKES]:
        text = texts[int(details["numbers"][place])]
        entry = {
            "source": text.source,
            "text": text.text[:SHOWN_CHARACTERS],
            "label": labels[int(details["labels"][place])],
            "predicted": labels[int(details["predictions"][place])],
            "probability": float(details["probabilities"][place]),
        }
        shown.append(entry | ({} if text.pair is None else {"pair": text.pair[:SHOWN_CHARACTERS]}))
    return shown
