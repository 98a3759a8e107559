"""The confusion matrix as a drawing: a square for each pair of true and predicted class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hf_align.reporting import formatting
from hf_align.reporting.drawing import FIRST, INK, SECOND, Plot, XAxis, sentence, svg
from hf_align.reporting.run_view import listing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_CLASSES = 12
"""More would be unreadable; the figures of each class say it then."""
_SHOWN_CHARACTERS = 16


def confusion_plot(evaluation: Mapping[str, Any], names: Sequence[str]) -> Plot | None:
    """Rows are true classes, columns predicted ones; a square is as strong as its share of its row.

    None where there is no matrix, or one of too many classes.
    """
    matrix = [
        [formatting.finite(n) or 0.0 for n in listing(row)] for row in listing(evaluation.get("confusion"))
    ]
    size = len(names)
    if not 2 <= size <= MOST_CLASSES or [len(row) for row in matrix] != [size] * size:
        return None
    short = [
        name if len(name) <= _SHOWN_CHARACTERS else name[: _SHOWN_CHARACTERS - 1] + "…" for name in names
    ]

    def draw(axes: Axes) -> None:
        from matplotlib.patches import Rectangle

        for i, row in enumerate(matrix):
            total = sum(row) or 1.0
            for j, count in enumerate(row):
                color = FIRST if i == j else SECOND
                place = (j - 0.48, i - 0.48)
                axes.add_patch(Rectangle(place, 0.96, 0.96, facecolor=color, alpha=0.5 * count / total))
                if count:
                    axes.text(j, i, f"{count:,.0f}", ha="center", va="center", color=INK, fontsize=8)
            axes.text(-0.6, i, short[i], ha="right", va="center", color=INK, fontsize=8)
            axes.text(i, -0.6, short[i], ha="left", va="bottom", rotation=35, color=INK, fontsize=8)
        axes.set_xlim(-0.5, size - 0.5)
        axes.set_ylim(size - 0.5, -0.5)
        axes.yaxis.set_visible(False)
        axes.tick_params(labelbottom=False)
        axes.spines[["bottom"]].set_visible(False)

    worst = max(
        ((row[j], i, j) for i, row in enumerate(matrix) for j in range(size) if i != j), default=(0.0, 0, 0)
    )
    right = sum(matrix[i][i] for i in range(size))
    summary = f"{right:,.0f} of {sum(map(sum, matrix)):,.0f} held-out rows are on the diagonal"
    if worst[0]:
        summary += f"; the most frequent mistake is {names[worst[2]]} for {names[worst[1]]} ({worst[0]:,.0f})"
    x = XAxis("class", "rows: true class; columns: predicted class", lambda value: "")
    drawing = svg(draw, "confusion", "square", "Confusion matrix", sentence(summary), x)
    return Plot("Confusion matrix", sentence(summary), {"small": drawing})
