"""Drawings of a pipeline: a measure of every stage's model, each seed's, and the mean with its interval."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hf_align.reporting import formatting
from hf_align.reporting.drawing import FAINT, FIRST, INK, SECOND, Plot, XAxis, sentence, svg
from hf_align.reporting.run_view import listing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Row = Mapping[str, Any]


def measure_plot(
    by_model: Mapping[str, Row], label: str, *, share: bool, name: str, seeds: int
) -> Plot | None:
    """A line for each of several models, the first stage on top; None where there is nothing to compare: for
    fewer than two models, and for a measure that is the same for all."""
    known = {
        model: figure
        for model, figure in by_model.items()
        if formatting.finite(figure.get("mean")) is not None
    }
    if len({figure["mean"] for figure in known.values()}) < 2:
        return None
    scale = 100 if share else 1

    def draw(axes: Axes) -> None:
        for place, figure in enumerate(reversed(known.values())):
            limits = [scale * float(limit) for limit in listing(figure.get("interval"))]
            if limits:
                axes.plot(limits, [place, place], color=FIRST, linewidth=2)
            values = [scale * float(value) for value in listing(figure.get("by_seed"))]
            if len(values) > 1:
                axes.plot(
                    values, [place] * len(values), color=SECOND, marker="|", markersize=9, linestyle="none"
                )
            axes.plot([scale * float(figure["mean"])], [place], color=FIRST, marker="o", markersize=6)
        axes.grid(axis="x", color=FAINT, linewidth=0.8)
        axes.set_yticks(range(len(known)), list(reversed(known)), color=INK)
        axes.set_ylim(-0.6, len(known) - 0.4)

    unit = ", %" if share else ""
    axis = XAxis(label, f"{label}{unit}", lambda value: f"{value:g}")
    told = "; ".join(f"{model} {scale * float(figure['mean']):.3g}" for model, figure in known.items())
    summary = sentence(f"{label}{unit}: {told}")
    note = "Lines: 95 % intervals."
    if seeds > 1:
        note = f"Dots: mean over {seeds} seeds, lines: its 95 % interval, strokes: each seed."
    drawing = svg(draw, name, "small", label, summary, axis)
    return Plot(label, summary, {"small": drawing}, note)
