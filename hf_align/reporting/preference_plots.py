"""The curves of a preference run: rewards and probabilities of the two answers, and what they amount to.

Every drawing shows the training steps as lines and evaluations as diamonds. How drawings are made is in
``drawing``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hf_align.reporting import formatting
from hf_align.reporting.drawing import (
    FAINT,
    FIRST,
    INK,
    SECOND,
    Plot,
    bad_note,
    course,
    drawable,
    sentence,
    start_at_zero,
    svg,
    thinned,
)
from hf_align.reporting.metrics import Series, evaluation_rows, smoothed, training_rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Row = Mapping[str, Any]

_MANY_POINTS = 30


@dataclass(frozen=True)
class _Curve:
    """One quantity, in training and in evaluations; ``worse``: it is of the worse answers."""

    name: str
    train: Series
    evaluation: Series
    worse: bool = False

    @property
    def values(self) -> list[float]:
        return self.train.values + self.evaluation.values


@dataclass(frozen=True)
class _Drawing:
    """``keys``: the quantities with their names in the drawing; the second is of the worse answers."""

    title: str
    label: str
    keys: tuple[tuple[str, str], ...]
    form: Callable[[Any], str] = formatting.loss


_DRAWINGS = (
    _Drawing("Rewards", "reward", (("rewards/chosen", "better"), ("rewards/rejected", "worse"))),
    _Drawing("Reward margin", "better minus worse", (("rewards/margins", ""),)),
    _Drawing("Pairs in the right order", "share", (("rewards/accuracies", ""),), formatting.share),
    _Drawing(
        "Log-probability of the answers",
        "nats per answer",
        (("logps/chosen", "better"), ("logps/rejected", "worse")),
    ),
    _Drawing("Change of the better answers", "nats per token", (("logps/chosen_change", ""),)),
    _Drawing("Distance from the reference", "nats per token", (("kl", ""),)),
)


def preference_plots(rows: Sequence[Row], *, bound: float | None = None) -> list[Plot]:
    """The drawings that the metrics allow. ``bound``: the fall of the better answers that is warned about."""
    train, evaluation = training_rows(rows), evaluation_rows(rows)
    plots = []
    for number, drawing in enumerate(_DRAWINGS):
        curves = [
            _Curve(name, drawable(train, key), drawable(evaluation, f"eval_{key}"), worse=place > 0)
            for place, (key, name) in enumerate(drawing.keys)
        ]
        curves = [curve for curve in curves if curve.values]
        if curves:
            limit = -bound if bound is not None and "logps/chosen_change" in dict(drawing.keys) else None
            plots.append(_plot(f"preference-{number}", drawing, curves, limit))
    return plots


def _plot(name: str, drawing: _Drawing, curves: Sequence[_Curve], limit: float | None) -> Plot:
    every = [value for curve in curves for value in curve.values]

    def draw(axes: Axes) -> None:
        for curve in curves:
            _draw_curve(axes, curve)
        low, high = min(every), max(every)
        if low < 0 < high:
            axes.axhline(0, color=FAINT, linewidth=1.1)
        # Only where it is near: it would flatten a curve that is far from it.
        if limit is not None and low < 0.6 * limit:
            axes.axhline(limit, color=INK, linewidth=1, linestyle=(0, (1, 2)), label="warned below")
        axes.set_ylabel(drawing.label)
        if drawing.form is formatting.share:
            axes.set_ylim(0, 1.04)
        else:
            start_at_zero(axes, every)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False, loc="best", labelcolor=INK, handlelength=2.2, fontsize=8.5)

    many = any(len(curve.train.values) > _MANY_POINTS for curve in curves)
    summary = sentence("; ".join(_described(curve, drawing.form) for curve in curves))
    notes = ["Diamonds: held-out prompts."] if any(curve.evaluation.values for curve in curves) else []
    notes += ["Training smoothed over a fifteenth of the points."] if many else []
    bad = bad_note(*(series for curve in curves for series in (curve.train, curve.evaluation)))
    return Plot(
        drawing.title,
        summary,
        {"small": svg(draw, name, "small", drawing.title, summary)},
        " ".join(part for part in (*notes, bad) if part),
    )


def _draw_curve(axes: Axes, curve: _Curve) -> None:
    color = SECOND if curve.worse else FIRST
    named = {"label": f"{curve.name} answers"} if curve.name else {}
    if curve.train.values:
        values = curve.train.values
        steps, values = thinned(curve.train.steps, smoothed(values) if len(values) > _MANY_POINTS else values)
        line: dict[str, Any] = {"color": color, "linewidth": 1.6, **named}
        if curve.worse:
            line["linestyle"] = (0, (5, 2))
        if len(values) < 3:  # a line between two points would claim a course that nobody measured
            line |= {"linestyle": "none", "marker": "o", "markersize": 4}
        axes.plot(steps, values, **line)
    if curve.evaluation.values:
        steps, values = thinned(curve.evaluation.steps, curve.evaluation.values)
        axes.plot(
            steps,
            values,
            color=color,
            linestyle="none",
            marker="D",
            markersize=4.8,
            # Hollow for the worse answers, so that they differ by more than their colour.
            markerfacecolor="none" if curve.worse else color,
        )


def _described(curve: _Curve, form: Callable[[Any], str]) -> str:
    of = f" ({curve.name} answers)" if curve.name else ""
    parts = [
        f"{where}{of} {course(found, form)}"
        for where, found in (("training", curve.train), ("held-out", curve.evaluation))
        if found.values
    ]
    return "; ".join(parts)
