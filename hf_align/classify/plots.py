"""The confusion matrix as a plot: a square for each pair of true and predicted class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hf_align.reporting.drawing import Plot, XAxis, sentence
from hf_align.reporting.marks import Matrix
from hf_align.reporting.run_view import listing
from hf_align.runs import formatting

MOST_CLASSES = 12
"""More would be unreadable; the metrics of each class say it then."""
_SHOWN_CHARACTERS = 16


def confusion_plot(evaluation: Mapping[str, Any], names: Sequence[str]) -> Plot | None:
    """Rows are true classes, columns predicted ones; None without a matrix of few enough."""
    matrix = [
        [formatting.finite(n) or 0.0 for n in listing(row)] for row in listing(evaluation.get("confusion"))
    ]
    size = len(names)
    if not 2 <= size <= MOST_CLASSES or [len(row) for row in matrix] != [size] * size:
        return None
    short = [n if len(n) <= _SHOWN_CHARACTERS else n[: _SHOWN_CHARACTERS - 1] + "…" for n in names]
    worst, true, predicted = max((matrix[i][j], i, j) for i in range(size) for j in range(size) if i != j)
    right = sum(matrix[i][i] for i in range(size))
    summary = sentence(
        f"{right:,.0f} of {sum(map(sum, matrix)):,.0f} held-out rows are on the diagonal",
        f"the most frequent mistake is {names[predicted]} for {names[true]} ({worst:,.0f})" if worst else "",
    )
    x = XAxis("class", "rows: true class; columns: predicted class")
    return Plot("Confusion matrix", summary, "confusion", [Matrix(matrix, short)], x, height=3.9)
