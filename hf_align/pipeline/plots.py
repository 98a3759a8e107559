"""Plots of a pipeline: a measure of every stage's model, each seed's, and the mean with its interval."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hf_align.reporting.drawing import Plot, XAxis, sentence
from hf_align.reporting.marks import POINTS, SECOND, Line, interval
from hf_align.reporting.run_view import listing
from hf_align.runs.formatting import finite


def measure_plot(
    by_model: Mapping[str, Mapping[str, Any]], label: str, *, share: bool, name: str, seeds: int
) -> Plot | None:
    """A row for each of several models, the first stage on top; None where there is nothing to compare: for
    fewer than two models, and for a measure that is the same for all."""
    known = {model: each for model, each in by_model.items() if finite(each.get("mean")) is not None}
    if len({each["mean"] for each in known.values()}) < 2:
        return None
    scale, axis = (100, f"{label}, %") if share else (1, label)
    lines, told = [], []
    for place, (model, each) in enumerate(known.items()):
        mean = scale * float(each["mean"])
        ends = [scale * limit for limit in interval(each.get("interval"))]
        lines.append(Line(ends, [place] * len(ends), width=2))
        values = [scale * value for value in map(finite, listing(each.get("by_seed"))) if value is not None]
        if len(values) > 1:
            strokes = [place] * len(values)
            lines.append(Line(values, strokes, color=SECOND, dashes=POINTS, marker="|", size=9))
        lines.append(Line([mean], [place], marker="o", size=6))
        told.append(f"{model} {mean:.3g}")
    summary, note = sentence(f"{axis}: {'; '.join(told)}"), "Lines: 95 % intervals."
    if seeds > 1:
        note = f"Dots: mean over {seeds} seeds, lines: its 95 % interval, strokes: each seed."
    return Plot(label, summary, name, lines, XAxis(label, axis), note=note, rows=list(known))
