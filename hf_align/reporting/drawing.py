"""What every drawing shares: inline SVG by matplotlib, coloured by the page's style sheet.

Colours are CSS variables (``var(--series-1)``), so that one drawing serves light mode, dark mode and
paper; text stays text, in the page's font. The palette is Okabe and Ito's, which colour-blind readers can
tell apart, and no two series of a drawing differ by colour alone. Which curves are drawn is decided in
``plots`` (one run) and ``comparison_plots`` (several).
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from markupsafe import Markup, escape

from hf_align.reporting.metrics import Series, series

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_POINTS = 600
"""Points drawn per curve; more would be invisible and would make the page heavy."""

LARGEST = 1e30
"""Values beyond this are as good as infinite, and more than a drawing can scale."""

# Colours that appear nowhere else in a drawing, and the CSS variables that replace them.
INK, FAINT, FIRST, FIRST_SOFT, SECOND = "#010101", "#010102", "#010103", "#010104", "#010105"
RUN_COLORS = tuple(f"#01020{number}" for number in range(1, 9))
_VARIABLES = {
    INK: "var(--muted)",
    FAINT: "var(--rule)",
    FIRST: "var(--series-1)",
    FIRST_SOFT: "var(--series-1-soft)",
    SECOND: "var(--series-2)",
    **{color: f"var(--run-{number})" for number, color in enumerate(RUN_COLORS, start=1)},
}
_SIZES = {"wide": (9.4, 3.3), "narrow": (4.4, 2.9), "small": (4.6, 2.45), "square": (4.6, 3.9)}


@dataclass(frozen=True)
class XAxis:
    """``name`` in a word, ``label`` below the axis; ``text``: a value as it stands there; ``whole``: only
    whole numbers are marked."""

    name: str
    label: str
    text: Callable[[float], str]
    whole: bool = False


STEPS = XAxis("steps", "optimizer step", lambda value: f"{value:,.0f}", whole=True)


@dataclass(frozen=True)
class Plot:
    """``title`` and ``summary`` (a sentence with the numbers, also read out by screen readers), ``forms``:
    the SVG per size name; ``note``: what was left out, or an empty string."""

    title: str
    summary: str
    forms: Mapping[str, Markup]
    note: str = ""


def drawable(rows: Sequence[Mapping[str, Any]], key: str) -> Series:
    """``series`` with values that no axis can hold counted among the bad ones."""
    return within_limits(series(rows, key))


def within_limits(found: Series) -> Series:
    """``found`` with values beyond ``LARGEST`` counted among the bad ones."""
    steps, values, bad_steps = found
    kept = [(step, value) for step, value in zip(steps, values, strict=True) if abs(value) <= LARGEST]
    bad_steps = bad_steps + [step for step, value in zip(steps, values, strict=True) if abs(value) > LARGEST]
    return Series([step for step, _ in kept], [value for _, value in kept], bad_steps)


def svg(
    draw: Callable[[Axes], None], name: str, size: str, title: str, summary: str, x: XAxis = STEPS
) -> Markup:
    """Draw on fresh axes and return the SVG element alone, with unique ids and a title for screen readers."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure
    from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator

    settings: Any = {
        "svg.fonttype": "none",
        "svg.hashsalt": name,  # the same run gives the same file
        "font.size": 9,
        "font.family": "sans-serif",
        # A dollar sign in a name, of a class or a model, is no formula.
        "text.parse_math": False,
        "text.color": INK,
        "axes.labelcolor": INK,
        "xtick.color": INK,
        "ytick.color": INK,
        "axes.edgecolor": FAINT,
        "grid.color": FAINT,
    }
    with rc_context(settings):
        figure = Figure(figsize=_SIZES[size], layout="constrained")
        canvas = FigureCanvasSVG(figure)
        figure.patch.set_alpha(0)
        axes = figure.add_subplot()
        axes.patch.set_alpha(0)
        draw(axes)
        axes.set_xlabel(x.label)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(which="both", length=0, labelcolor=INK)
        axes.grid(axis="y", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=8 if size == "wide" else 5, integer=x.whole))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: x.text(value)))
        # Ticks that a drawing has fixed are names.
        if axes.get_yscale() == "linear" and not isinstance(axes.yaxis.get_major_locator(), FixedLocator):
            axes.yaxis.set_major_locator(MaxNLocator(nbins=5))
            axes.yaxis.set_major_formatter(FuncFormatter(tick_text))
        elif axes.get_yscale() == "log":
            # Matplotlib writes the names of these ticks as formulas.
            axes.yaxis.set_major_formatter(FuncFormatter(tick_text))
            low, high = axes.get_ylim()
            narrow = high < 30 * low
            axes.yaxis.set_minor_locator(LogLocator(subs=(2, 5)))
            axes.yaxis.set_minor_formatter(FuncFormatter(tick_text if narrow else lambda _value, _place: ""))
        if x.whole:
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


def thinned(steps: list[float], values: list[float]) -> tuple[list[float], list[float]]:
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


def limit_spikes(axes: Axes, values: Sequence[float]) -> None:
    """A logarithmic axis where one point in twenty is so high that the rest would be a flat line."""
    ordered = sorted(values)
    usual = ordered[int(0.95 * (len(ordered) - 1))]
    if len(ordered) > 2 and ordered[0] > 0 and ordered[-1] > 30 * usual:
        axes.set_yscale("log")


def start_at_zero(axes: Axes, values: Sequence[float]) -> None:
    """Begin a linear axis of values that are not negative at zero."""
    if min(values) >= 0 and axes.get_yscale() == "linear":
        axes.set_ylim(0, 1.06 * max(values) or 1.0)


def _widen_few_steps(axes: Axes) -> None:
    """Half a step of room around one or two points, where matplotlib would show fractions of a step."""
    first, last = axes.dataLim.x0, axes.dataLim.x1
    if last - first < 2:
        axes.set_xlim(first - 0.5, last + 0.5)


def tick_text(value: float, _place: int) -> str:
    """A number beside a tick, with commas from 1,000 on."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:g}" if abs(value) >= 1e-12 else "0"


def binary_unit(values: Sequence[float]) -> tuple[float, str]:
    """(bytes in the unit, its name): GiB or MiB, by the largest of the values."""
    return (2.0**30, "GiB") if max(values) >= 2**30 else (2.0**20, "MiB")


def course(values: Series, form: Any, unit: str = "") -> str:
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


def sentence(text: str) -> str:
    """The text with a capital letter and a full stop."""
    return text[:1].upper() + text[1:] + "."


def bad_note(*all_series: Series) -> str:
    """A sentence on the steps whose values cannot be drawn; empty where there are none."""
    bad = sorted({step for one in all_series for step in one.bad_steps})
    if not bad:
        return ""
    listed = ", ".join(f"{step:,.0f}" for step in bad[:8]) + (" …" if len(bad) > 8 else "")
    steps, values = ("step", "value was") if len(bad) == 1 else ("steps", "values were")
    return f"Not drawn: at {steps} {listed} the {values} not finite (NaN, infinite or beyond {LARGEST:g})."
