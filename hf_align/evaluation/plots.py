"""Plots of an evaluation: the main metric of each model with its interval, by task and by subject."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hf_align.evaluation.results import KINDS, main_metric, metric_names, written
from hf_align.reporting.drawing import Plot, XAxis, sentence
from hf_align.reporting.marks import Level, Line, Mark, interval, look
from hf_align.reporting.run_view import mapping
from hf_align.runs.formatting import finite

MOST_SUBJECTS = 24
"""More would not be legible; the table has them all."""


def task_plot(kind: str, task: str, metrics: Mapping[str, Any], name: str) -> Plot | None:
    """A point for each of several models, with its interval; None for a single one."""
    key, label, scale, x = _axis(kind, metrics)
    known = {model: each for model, each in metrics.items() if finite(each.get(key)) is not None}
    if len(known) < 2:
        return None
    marks: list[Mark] = []
    for place, each in enumerate(known.values()):
        dot = look(place, dots=True)
        ends = [scale * limit for limit in interval(each.get(f"{key}_interval"))]
        marks.append(Line(ends, [place] * len(ends), color=dot["color"], width=2))
        marks.append(Line([scale * float(each[key])], [place], size=6, **dot))
    chance = finite(next(iter(known.values())).get("chance"))
    if chance is not None:
        marks.append(Level((scale * chance,), of="x"))
    told = "; ".join(f"{model} {written(kind, each, key)}" for model, each in known.items())
    note = "Lines are 95 % intervals." + (" Dotted: a random choice." if kind == "multiple_choice" else "")
    summary = sentence(f"{label}: {told}")
    return Plot(f"{task}: {label}", summary, name, marks, x, note=note, rows=list(known))


def subject_plot(kind: str, task: str, metrics: Mapping[str, Any], name: str) -> Plot | None:
    """The main metric of every subject, a mark for each model; None without several subjects."""
    key, label, scale, x = _axis(kind, metrics)
    by_model = {model: mapping(each.get("subjects")) for model, each in metrics.items()}
    subjects = list(dict.fromkeys(subject for each in by_model.values() for subject in each))
    found = {
        model: {s: value for s in subjects if (value := finite(mapping(each.get(s)).get(key))) is not None}
        for model, each in by_model.items()
    }
    first, its = next(iter(found.items()), ("", {}))
    if not 2 <= len(subjects) <= MOST_SUBJECTS or not its:
        return None
    lines = []
    for number, (model, known) in enumerate(found.items()):
        # Models that agree would hide each other on one line.
        shift = 0.18 * (number - (len(found) - 1) / 2)
        places = [subjects.index(subject) + shift for subject in known]
        values = [scale * value for value in known.values()]
        lines.append(Line(values, places, model if len(found) > 1 else "", size=5, **look(number, dots=True)))
    low, high = min(its, key=its.__getitem__), max(its, key=its.__getitem__)
    worst, best = (f"{subject} ({written(kind, {key: its[subject]}, key)})" for subject in (low, high))
    summary = sentence(f"{first} is lowest in {worst} and highest in {best}")
    return Plot(f"{task}: {label} by subject", summary, name, lines, x, rows=subjects)


def _axis(kind: str, metrics: Mapping[str, Any]) -> tuple[str, str, int, XAxis]:
    """(main metric, its name, what it is multiplied by, its axis)."""
    key = main_metric(kind, metrics)
    label = metric_names(kind, metrics).get(key, key)
    share = KINDS[kind].is_share(key)
    return key, label, 100 if share else 1, XAxis(label, f"{label}, %" if share else label)
