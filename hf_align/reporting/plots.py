"""The curves of a run as inline SVG, drawn by matplotlib, coloured by the page's style sheet.

Colours are CSS variables (``var(--series-1)``), so that one drawing serves light mode, dark mode and
paper; text stays text, in the page's font. The palette is Okabe and Ito's, which colour-blind readers can
tell apart, and no two series of a drawing differ by colour alone. Each drawing comes in a wide and a
narrow form. Which curves exist is decided here; what surrounds them belongs to the page.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from markupsafe import Markup, escape

from hf_align.reporting import formatting
from hf_align.reporting.metrics import Series, evaluation_rows, series, smoothed, training_rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_POINTS = 600
"""Points drawn per curve; more would be invisible and would make the page heavy."""

LARGEST = 1e30
"""Values beyond this are as good as infinite, and more than a drawing can scale."""

# Colours that appear nowhere else in a drawing, and the CSS variables that replace them.
_INK, _FAINT, _FIRST, _FIRST_SOFT, _SECOND = "#010101", "#010102", "#010103", "#010104", "#010105"
_VARIABLES = {
    _INK: "var(--muted)",
    _FAINT: "var(--rule)",
    _FIRST: "var(--series-1)",
    _FIRST_SOFT: "var(--series-1-soft)",
    _SECOND: "var(--series-2)",
}
_SIZES = {"wide": (9.4, 3.3), "narrow": (4.4, 2.9), "small": (4.6, 2.45)}


@dataclass(frozen=True)
class Plot:
    """``title`` and ``summary`` (a sentence with the numbers, also read out by screen readers), ``forms``:
    the SVG per size name; ``note``: what was left out, or an empty string."""

    title: str
    summary: str
    forms: Mapping[str, Markup]
    note: str = ""


def run_plots(rows: Sequence[Mapping[str, Any]]) -> list[Plot]:
    """The plots that the metrics allow, the loss first; an empty list if nothing was logged.

    ``rows``: the lines of ``metrics.jsonl`` in order (see ``metrics.read_metrics``).
    """
    train, evaluation = training_rows(rows), evaluation_rows(rows)
    losses, eval_losses = _drawable(train, "loss"), _drawable(evaluation, "eval_loss")
    plots = []
    if losses.values or eval_losses.values:
        plots.append(_loss_plot(losses, eval_losses))
    for key, title, unit, form in (
        ("learning_rate", "Learning rate", "", formatting.loss),
        ("grad_norm", "Gradient norm", "", formatting.loss),
        ("tokens_per_second", "Throughput", "tokens/s", formatting.rate),
        ("peak_memory_bytes", "Peak memory", "", formatting.size),
    ):
        values = _drawable(train, key)
        if values.values:
            plots.append(_single_plot(key, title, unit, values, form))
    return plots


def _drawable(rows: Sequence[Mapping[str, Any]], key: str) -> Series:
    """``series`` with values that no axis can hold counted among the bad ones."""
    steps, values, bad_steps = series(rows, key)
    kept = [(step, value) for step, value in zip(steps, values, strict=True) if abs(value) <= LARGEST]
    bad_steps += [step for step, value in zip(steps, values, strict=True) if abs(value) > LARGEST]
    return Series([step for step, _ in kept], [value for _, value in kept], bad_steps)


def _loss_plot(train: Series, evaluation: Series) -> Plot:
    def draw(axes: Axes) -> None:
        if train.values:
            many = len(train.values) > 5
            steps, values = _thinned(train.steps, train.values)
            marker: dict[str, Any] = {} if len(train.values) > 1 else {"marker": "o", "markersize": 4}
            color = _FIRST_SOFT if many else _FIRST
            axes.plot(steps, values, color=color, linewidth=1, label="training", **marker)
            if many:
                steps, values = _thinned(train.steps, smoothed(train.values))
                axes.plot(steps, values, color=_FIRST, linewidth=1.9, label="training, smoothed")
        if evaluation.values:
            steps, values = _thinned(evaluation.steps, evaluation.values)
            style: dict[str, Any] = {
                "linestyle": (0, (4, 2)),
                "marker": "D",
                "markersize": 4.5,
                "linewidth": 1.3,
            }
            if len(steps) < 3:  # a line between two points would claim a course that nobody measured
                style["linestyle"] = "none"
            axes.plot(steps, values, color=_SECOND, label="held-out", **style)
        axes.set_ylabel("loss, nats per target token")
        _limit_spikes(axes, train.values + evaluation.values)
        _start_at_zero(axes, train.values + evaluation.values)
        axes.legend(frameon=False, loc="best", labelcolor=_INK, handlelength=2.2)

    parts = [
        f"{name} loss {_course(values, formatting.loss)}"
        for name, values in (("training", train), ("held-out", evaluation))
        if values.values
    ]
    summary = _sentence("; ".join(parts))
    forms = {name: _svg(draw, f"loss-{name}", name, "Loss", summary) for name in ("wide", "narrow")}
    return Plot("Loss", summary, forms, _bad_note(train, evaluation))


def _single_plot(key: str, title: str, unit: str, values: Series, form: Any) -> Plot:
    def draw(axes: Axes) -> None:
        steps, points = _thinned(values.steps, values.values)
        scale = _binary_unit(points) if form is formatting.size else (1.0, unit)
        points = [point / scale[0] for point in points]
        marker: dict[str, Any] = {} if len(points) > 1 else {"marker": "o", "markersize": 4}
        axes.plot(steps, points, color=_FIRST, linewidth=1.5, **marker)
        axes.set_ylabel(scale[1])
        _limit_spikes(axes, points)
        _start_at_zero(axes, points)

    ending = f" {unit}" if unit else ""
    summary = _sentence(_course(values, form, ending))
    return Plot(title, summary, {"small": _svg(draw, key, "small", title, summary)}, _bad_note(values))


def _svg(draw: Any, name: str, size: str, title: str, summary: str) -> Markup:
    """Draw on fresh axes and return the SVG element alone, with unique ids and a title for screen readers."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    settings: Any = {
        "svg.fonttype": "none",
        "svg.hashsalt": name,  # the same run gives the same file
        "font.size": 9,
        "font.family": "sans-serif",
        "text.color": _INK,
        "axes.labelcolor": _INK,
        "xtick.color": _INK,
        "ytick.color": _INK,
        "axes.edgecolor": _FAINT,
        "grid.color": _FAINT,
    }
    with rc_context(settings):
        figure = Figure(figsize=_SIZES[size], layout="constrained")
        canvas = FigureCanvasSVG(figure)
        figure.patch.set_alpha(0)
        axes = figure.add_subplot()
        axes.patch.set_alpha(0)
        draw(axes)
        axes.set_xlabel("optimizer step")
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(which="both", length=0, labelcolor=_INK)
        axes.grid(axis="y", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=8 if size == "wide" else 5, integer=True))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        if axes.get_yscale() == "linear":
            axes.yaxis.set_major_locator(MaxNLocator(nbins=5))
            axes.yaxis.set_major_formatter(FuncFormatter(_tick))
        _widen_few_steps(axes)
        output = io.StringIO()
        canvas.print_svg(output, metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return _inline(output.getvalue(), name, title, summary)


def _inline(document: str, name: str, title: str, summary: str) -> Markup:
    """The ``<svg>`` element of a matplotlib file, made safe to stand beside others in a page."""
    body = document[document.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r"<!--.*?-->", "", body, flags=re.DOTALL)
    body = re.sub(r'\b(id="|href="#)', rf"\g<1>{name}-", body)
    body = body.replace("url(#", f"url(#{name}-")
    # The page's font replaces matplotlib's; sizes stay.
    body = re.sub(r"font: ([\d.]+px)[^;\"]*", r"font-size: \1", body)
    for color, variable in _VARIABLES.items():
        body = body.replace(color, variable)
    viewbox = re.search(r'viewBox="[^"]*"', body)
    view = viewbox[0] if viewbox else ""
    label = (
        f'<svg {view} role="img" aria-labelledby="{name}-title {name}-desc" xmlns="http://www.w3.org/2000/svg">'
        f'<title id="{name}-title">{escape(title)}</title><desc id="{name}-desc">{escape(summary)}</desc>'
    )
    body = re.sub(r"^<svg.*?>", lambda _: label, body, count=1, flags=re.DOTALL)
    return Markup(re.sub(r"\s*\n\s*", "\n", body).replace("xlink:href", "href"))


def _thinned(steps: list[float], values: list[float]) -> tuple[list[float], list[float]]:
    """At most about ``MAX_POINTS`` points: the lowest and the highest of every bin, so that spikes stay."""
    if len(values) <= MAX_POINTS:
        return steps, values
    width = math.ceil(2 * len(values) / MAX_POINTS)
    kept = {0, len(values) - 1}
    for first in range(0, len(values), width):
        places = range(first, min(first + width, len(values)))
        kept |= {min(places, key=values.__getitem__), max(places, key=values.__getitem__)}
    order = sorted(kept)
    return [steps[place] for place in order], [values[place] for place in order]


def _limit_spikes(axes: Axes, values: Sequence[float]) -> None:
    """A logarithmic axis where one point in twenty is so high that the rest would be a flat line."""
    ordered = sorted(values)
    usual = ordered[int(0.95 * (len(ordered) - 1))]
    if len(ordered) > 2 and ordered[0] > 0 and ordered[-1] > 30 * usual:
        axes.set_yscale("log")


def _start_at_zero(axes: Axes, values: Sequence[float]) -> None:
    if min(values) >= 0 and axes.get_yscale() == "linear":
        axes.set_ylim(0, 1.06 * max(values) or 1.0)


def _widen_few_steps(axes: Axes) -> None:
    """Half a step of room around one or two points, where matplotlib would show fractions of a step."""
    first, last = axes.dataLim.x0, axes.dataLim.x1
    if last - first < 2:
        axes.set_xlim(first - 0.5, last + 0.5)


def _tick(value: float, _place: int) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:g}" if abs(value) >= 1e-12 else "0"


def _binary_unit(values: Sequence[float]) -> tuple[float, str]:
    return (2.0**30, "GiB") if max(values) >= 2**30 else (2.0**20, "MiB")


def _course(values: Series, form: Any, unit: str = "") -> str:
    """``from 2.1 to 0.9 (lowest 0.8), steps 1 to 120``, or the one value. ``unit`` starts with a space."""
    if len(values.values) == 1:
        return f"{form(values.values[0])}{unit} at step {values.steps[0]:,.0f}"
    first, last = values.values[0], values.values[-1]
    low, high = min(values.values), max(values.values)
    extremes = [f"lowest {form(low)}"] if low < min(first, last) else []
    extremes += [f"highest {form(high)}"] if high > max(first, last) else []
    aside = f" ({', '.join(extremes)})" if extremes else ""
    span = f"steps {values.steps[0]:,.0f} to {values.steps[-1]:,.0f}"
    return f"from {form(first)} to {form(last)}{unit}{aside}, {span}"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "."


def _bad_note(*all_series: Series) -> str:
    bad = sorted({step for one in all_series for step in one.bad_steps})
    if not bad:
        return ""
    listed = ", ".join(f"{step:,.0f}" for step in bad[:8]) + (" …" if len(bad) > 8 else "")
    steps, values = ("step", "value was") if len(bad) == 1 else ("steps", "values were")
    return f"Not drawn: at {steps} {listed} the {values} not finite (NaN, infinite or beyond {LARGEST:g})."
