"""Accuracy, F1 and Matthews' coefficient as metrics of the ``evaluate`` library that need no download.

``evaluate.load("f1")`` fetches a script from a hub; these are classes of the same interface: ``compute``,
``add``, ``add_batch``, and ``evaluate.combine``. The formulas are in
``statistics.metric_formulas``. Importing this module takes seconds, since ``evaluate`` does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import datasets
import evaluate

from hf_align.statistics.metric_formulas import Matrix, accuracy, confusion_matrix, f1, matthews

_INPUTS = "predictions and references: the numbers of classes, counted from 0."


class _ClassMetric(evaluate.Metric):
    """What the metrics share: inputs of whole numbers."""

    description = ""
    citation = ""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=self.description,
            citation=self.citation,
            inputs_description=_INPUTS,
            features=datasets.Features(
                {"predictions": datasets.Value("int64"), "references": datasets.Value("int64")}
            ),
        )


class Accuracy(_ClassMetric):
    """``{"accuracy"}``: the share of predictions that are right."""

    description = "The share of predictions that are right."

    def _compute(self, predictions: Sequence[int], references: Sequence[int]) -> dict[str, float]:
        return {"accuracy": accuracy(_matrix(references, predictions))}


class F1(_ClassMetric):
    """``{"f1"}``. ``compute(average=…)``: ``binary`` (of ``pos_label``), ``macro`` or ``micro``.

    Raises ValueError for ``binary`` with more than two classes.
    """

    description = "The harmonic mean of precision and recall."

    def _compute(
        self,
        predictions: Sequence[int],
        references: Sequence[int],
        average: Literal["binary", "macro", "micro"] = "binary",
        pos_label: int = 1,
    ) -> dict[str, float]:
        if average not in ("binary", "macro", "micro"):
            raise ValueError(f"average: found {average!r}, expected binary, macro or micro")
        matrix = _matrix(references, predictions)
        if average == "binary" and len(matrix) > 2:
            raise ValueError(
                f"average='binary' needs two classes, found {len(matrix)}; expected macro or micro"
            )
        return {"f1": f1(matrix, average, positive=pos_label)}


class MatthewsCorrelation(_ClassMetric):
    """``{"matthews_correlation"}``: from -1 over 0 (as chance does) to 1, for any number of classes."""

    description = "The correlation of predicted and true classes."
    citation = "Gorodkin 2004, Computational Biology and Chemistry 28 (5-6), 367-374"

    def _compute(self, predictions: Sequence[int], references: Sequence[int]) -> dict[str, float]:
        return {"matthews_correlation": matthews(_matrix(references, predictions))}


def _matrix(references: Sequence[int], predictions: Sequence[int]) -> Matrix:
    """With as many classes as the numbers show, and two at least."""
    return confusion_matrix(references, predictions, max([1, *references, *predictions]) + 1)
