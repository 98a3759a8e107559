"""Quantities over the steps of a run, each plot a row of a table of ``Curves``.

What a plot is made of is in ``marks``, how it is drawn in ``drawing``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hf_align.reporting.drawing import HERO, STEPS, Plot, XAxis, sentence
from hf_align.reporting.marks import FAINT, FIRST_SOFT, POINTS, SECOND, SOLID, Level, Line, Mark, look
from hf_align.runs import formatting
from hf_align.runs.metrics import Series, evaluation_rows, series, smoothed, training_rows

Row = Mapping[str, Any]

LARGEST = 1e30
"""Values beyond this are as good as infinite, and more than a drawing can scale."""
MANY_POINTS = 31
"""Curves of that many are smoothed, where they are noisy."""


@dataclass(frozen=True)
class Curves:
    """A plot of one quantity or two. ``y``: label of the axis; ``keys``: of metrics.jsonl, each with its
    name, empty where it is alone; ``form``: a value in words, which ``unit`` follows."""

    title: str
    y: str
    keys: Mapping[str, str]
    form: Callable[[Any], str] = formatting.loss
    unit: str = ""
    sizes: Sequence[str] = ("small",)
    y_limits: tuple[float, float] | None = None


RUN_TABLE = (
    Curves("Learning rate", "", {"learning_rate": ""}),
    Curves("Gradient norm", "", {"grad_norm": ""}),
    Curves("Throughput", "tokens/s", {"tokens_per_second": ""}, formatting.rate, " tokens/s"),
    Curves("Peak memory", "", {"peak_memory_bytes": ""}, formatting.size),
)


def run_plots(rows: Sequence[Row], x: XAxis = STEPS) -> list[Plot]:
    """The plots that the metrics of any run allow, the loss first; an empty list if nothing was logged.

    ``rows``: the lines of ``metrics.jsonl`` in order (see ``metrics.read_metrics``). ``x``: what a step is.
    """
    train, evaluation = training_rows(rows), evaluation_rows(rows)
    y = "loss, nats per target token"
    for counted, label in (("rows", "loss, nats per row"), ("prompts", "loss per prompt")):
        if any(counted in row for row in train) or any(f"eval_{counted}" in row for row in evaluation):
            y = label
    loss = Curves("Loss", y, {"loss": ""}, sizes=HERO)
    words: Any = {"said": ("training loss", "held-out loss"), "labels": ("training", "held-out")}
    shown = curve_plots([loss], "loss", train, evaluation, x=x, smooth_from=6, **words)
    return shown + curve_plots(RUN_TABLE, "run", train, x=x)


def curve_plots(
    table: Iterable[Curves],
    name: str,
    train: Sequence[Row],
    evaluation: Sequence[Row] = (),
    *,
    x: XAxis = STEPS,
    said: tuple[str, str] = ("", ""),
    labels: tuple[str, str] = ("", ""),
    smooth_from: int | None = None,
    asides: Mapping[str, tuple[Sequence[Mark], str]] | None = None,
) -> list[Plot]:
    """The plots of ``table`` that the metrics allow: lines of ``train``, diamonds of ``evaluation``.

    ``said``, ``labels``: what the two are called in the summary and in the legend. ``smooth_from``: how many
    values are smoothed. ``asides``: by the first key of a plot more marks, and more words for the summary.
    """
    plots = []
    for number, entry in enumerate(table):
        found = [(drawable(train, key), drawable(evaluation, f"eval_{key}")) for key in entry.keys]
        every = [one for pair in found for one in pair]
        values = [value for one in every for value in one.values]
        if not values:
            continue
        beside, more = (asides or {}).get(next(iter(entry.keys)), ((), ""))
        marks = [*beside]
        if min(values) < 0 < max(values):
            marks.append(Level((0,), color=FAINT, dashes=SOLID))
        scale, y = scale_of(entry, values)
        told, notes = [], []
        for place, (named, (sampled, held_out)) in enumerate(zip(entry.keys.values(), found, strict=True)):
            smooth = smooth_from is not None and len(sampled.values) >= smooth_from
            label = named or (labels[0] if smooth or held_out.values else "")
            if smooth and not named:
                marks.append(line(sampled, scale, color=FIRST_SOFT, width=1, label=label))
                label = label and f"{label}, smoothed"
            if sampled.values:
                marks.append(line(sampled, scale, smooth=smooth, **look(place), label=label))
                told.append(_words(said[0], named) + trend(sampled, entry.form, entry.unit, x))
            if held_out.values:
                # Beside a second quantity, in the colour of its own, hollow for the second and not joined.
                own: dict[str, Any] = {**look(place), "dashes": POINTS, "hollow": place > 0}
                own = own if named else {"color": SECOND, "dashes": (4, 2), "width": 1.3}
                marks.append(line(held_out, scale, **{**own, "marker": "D", "label": labels[1]}))
                told.append(_words(said[1], named) + trend(held_out, entry.form, entry.unit, x))
                notes += [] if labels[1] else ["Diamonds: held-out prompts."]
            notes += ["Training smoothed over a fifteenth of the points."] if smooth and not labels[0] else []
        note = " ".join(dict.fromkeys(filter(None, (*notes, bad_note(*every)))))
        summary, own_name = sentence(*told, more), f"{name}-{number}"
        look_of_axes: dict[str, Any] = {"sizes": entry.sizes, "scale": "zero", "y_limits": entry.y_limits}
        plots.append(Plot(entry.title, summary, own_name, marks, x, y, note, **look_of_axes))
    return plots


def line(found: Series, scale: float = 1.0, *, smooth: bool = False, **style: Any) -> Line:
    """``found`` in units of ``scale``. Fewer than three values are not joined: that would claim a trend that
    nobody measured."""
    values = [value / scale for value in (smoothed(found.values) if smooth else found.values)]
    style = {"marker": "o", **style, "dashes": POINTS} if len(values) < 3 else style
    return Line(found.steps, values, **style)


def scale_of(entry: Curves, values: Sequence[float]) -> tuple[float, str]:
    """(what values are divided by, label of the axis): GiB or MiB for bytes, by the largest of the values."""
    if entry.form is not formatting.size:
        return 1.0, entry.y
    return (2.0**30, "GiB") if max(values) >= 2**30 else (2.0**20, "MiB")


def drawable(rows: Iterable[Row], key: str) -> Series:
    """``series`` with values that no axis can hold counted among the bad ones."""
    found = series(rows, key)
    pairs = list(zip(found.steps, found.values, strict=True))
    kept = [(step, value) for step, value in pairs if abs(value) <= LARGEST]
    beyond = [step for step, value in pairs if abs(value) > LARGEST]
    return Series([step for step, _ in kept], [value for _, value in kept], found.bad_steps + beyond)


def trend(found: Series, form: Callable[[Any], str], unit: str = "", x: XAxis = STEPS) -> str:
    """``from 2.1 to 0.9 (lowest 0.8), steps 1 to 120``, or the one value. ``unit`` starts with a space."""
    steps, values = found.steps, found.values
    if len(values) == 1:
        return f"{form(values[0])}{unit} at {x.name.removesuffix('s')} {steps[0]:,.0f}"
    first, last, low, high = values[0], values[-1], min(values), max(values)
    extremes = [f"lowest {form(low)}"] if low < min(first, last) else []
    extremes += [f"highest {form(high)}"] if high > max(first, last) else []
    aside = f" ({', '.join(extremes)})" if extremes else ""
    return f"from {form(first)} to {form(last)}{unit}{aside}, {x.name} {steps[0]:,.0f} to {steps[-1]:,.0f}"


def bad_note(*found: Series) -> str:
    """A sentence on the steps whose values cannot be drawn; empty where there are none."""
    bad = sorted({step for one in found for step in one.bad_steps})
    if not bad:
        return ""
    listed = ", ".join(f"{step:,.0f}" for step in bad[:8]) + (" …" if len(bad) > 8 else "")
    steps, values = ("step", "value was") if len(bad) == 1 else ("steps", "values were")
    return f"Not drawn: at {steps} {listed} the {values} not finite (NaN, infinite or beyond {LARGEST:g})."


def _words(what: str, name: str) -> str:
    """``training (chosen answers) ``, or as much of it as there is."""
    text = f"{what} ({name})" if what and name else what or name
    return f"{text} " if text else ""
