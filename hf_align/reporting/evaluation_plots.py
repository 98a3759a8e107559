"""Drawings of an evaluation: the main figure of each model with its interval, by task and by subject."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hf_align.evaluation.results import KINDS, figure_names, main_figure, written
from hf_align.reporting import formatting
from hf_align.reporting.drawing import FIRST, INK, SECOND, Plot, XAxis, sentence, svg
from hf_align.reporting.run_view import listing, mapping

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_SUBJECTS = 24
"""More would not be legible; the table has them all."""


_COLORS = (FIRST, SECOND, INK)
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")


def _style(number: int) -> tuple[str, str]:
    """(colour, marker) of model ``number``, from 0; the first 24 all differ."""
    return _COLORS[number % len(_COLORS)], _MARKERS[number % len(_MARKERS)]


def task_plot(kind: str, task: str, figures: Mapping[str, Any], name: str) -> Plot | None:
    """A point for each of several models, with its interval; None for a single one."""
    key = main_figure(kind, figures)
    label = figure_names(kind, figures).get(key, key)
    known = {model: each for model, each in figures.items() if formatting.finite(each.get(key)) is not None}
    if len(known) < 2:
        return None
    scale = 100 if KINDS[kind].is_share(key) else 1

    def draw(axes: Axes) -> None:
        for place, each in enumerate(reversed(known.values())):
            color, marker = _style(len(known) - 1 - place)
            value = scale * float(each[key])
            limits = [formatting.finite(limit) for limit in listing(each.get(f"{key}_interval"))]
            if len(limits) == 2 and limits[0] is not None and limits[1] is not None:
                axes.plot([scale * limits[0], scale * limits[1]], [place, place], color=color, linewidth=2)
            axes.plot([value], [place], color=color, marker=marker, markersize=6, linestyle="none")
        chance = formatting.finite(next(iter(known.values())).get("chance"))
        if chance is not None:
            axes.axvline(scale * chance, color=INK, linewidth=0.8, linestyle=":")
        axes.set_yticks(range(len(known)), list(reversed(known)))
        axes.set_ylim(-0.6, len(known) - 0.4)

    unit = ", %" if KINDS[kind].is_share(key) else ""
    axis = XAxis(label, f"{label}{unit}", lambda value: f"{value:g}")
    told = "; ".join(f"{model} {written(kind, each, key)}" for model, each in known.items())
    summary = sentence(f"{label}: {told}")
    note = "Lines are 95 % intervals." + (" Dotted: a random choice." if kind == "multiple_choice" else "")
    drawing = svg(draw, name, "small", f"{task}: {label}", summary, axis)
    return Plot(f"{task}: {label}", summary, {"small": drawing}, note)


def subject_plot(kind: str, task: str, figures: Mapping[str, Any], name: str) -> Plot | None:
    """The main figure of every subject, a mark for each model; None without several subjects."""
    key = main_figure(kind, figures)
    label = figure_names(kind, figures).get(key, key)
    by_model = {model: mapping(each.get("subjects")) for model, each in figures.items()}
    subjects = list(dict.fromkeys(subject for each in by_model.values() for subject in each))
    if not 2 <= len(subjects) <= MOST_SUBJECTS:
        return None
    scale = 100 if KINDS[kind].is_share(key) else 1

    def draw(axes: Axes) -> None:
        for number, (model, each) in enumerate(by_model.items()):
            color, marker = _style(number)
            known = [
                (scale * float(each[subject][key]), len(subjects) - 1 - place)
                for place, subject in enumerate(subjects)
                if formatting.finite(mapping(each.get(subject)).get(key)) is not None
            ]
            if known:
                xs, ys = zip(*known, strict=True)
                # Models that agree would hide each other on one line.
                shift = 0.18 * (number - (len(by_model) - 1) / 2)
                places = [y - shift for y in ys]
                axes.plot(xs, places, color=color, marker=marker, markersize=5, linestyle="none", label=model)
        axes.set_yticks(range(len(subjects)), list(reversed(subjects)))
        axes.set_ylim(-0.6, len(subjects) - 0.4)
        if len(by_model) > 1:
            axes.legend(frameon=False, labelcolor=INK, handlelength=1.2)

    unit = ", %" if KINDS[kind].is_share(key) else ""
    axis = XAxis(label, f"{label}{unit}", lambda value: f"{value:g}")
    first, found = next(iter(by_model.items()))
    order = sorted(
        (s for s in subjects if formatting.finite(mapping(found.get(s)).get(key)) is not None),
        key=lambda s: found[s][key],
    )
    if not order:
        return None
    worst, best = (f"{s} ({written(kind, {key: found[s][key]}, key)})" for s in (order[0], order[-1]))
    summary = sentence(f"{first} is lowest in {worst} and highest in {best}")
    drawing = svg(draw, name, "small", f"{task}: {label} by subject", summary, axis)
    return Plot(f"{task}: {label} by subject", summary, {"small": drawing})
