"""The one loop that draws plots: inline SVG by matplotlib, coloured by the page's style sheet.

A ``Plot`` is data, words and ``marks`` on two axes, and is drawn when a page asks for its ``forms``. Colours
become CSS variables (``var(--series-1)``), so that one drawing serves light mode, dark mode and paper; text
stays text, in the page's font. The palette is Okabe and Ito's, which colour-blind readers can tell apart.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from markupsafe import Markup, escape

from hf_align.reporting.marks import FAINT, FIRST, FIRST_SOFT, INK, RUN_COLORS, SECOND, Line, Mark

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_VARIABLES = {
    INK: "var(--muted)",
    FAINT: "var(--rule)",
    FIRST: "var(--series-1)",
    FIRST_SOFT: "var(--series-1-soft)",
    SECOND: "var(--series-2)",
    **{color: f"var(--run-{number})" for number, color in enumerate(RUN_COLORS, start=1)},
}
HERO = ("wide", "narrow")
"""Sizes of the first plot of a section: for wide screens and for narrow ones."""
_SIZES = {"wide": (9.4, 3.3), "narrow": (4.4, 2.9), "small": (4.6, 2.45)}


@dataclass(frozen=True)
class XAxis:
    """``name`` in a word, ``label`` below the axis; ``text``: a value as it stands there; ``whole``: only
    whole numbers are marked."""

    name: str
    label: str
    text: Callable[[float], str] = "{:g}".format
    whole: bool = False


STEPS = XAxis("steps", "optimizer step", "{:,.0f}".format, whole=True)


@dataclass(frozen=True)
class Plot:
    """``title`` and ``summary`` (a sentence with the numbers, also read out by screen readers); ``name``: of
    this plot alone on a page; ``note``: what was left out, or an empty string.

    ``y``: label of the axis. ``scale``: ``zero`` begins at zero where nothing is negative, and turns
    logarithmic where one point in twenty is far above the rest. ``rows``, ``columns``: names in place of the
    numbers 0, 1, … of an axis, the first row on top. ``height``: in inches, in place of the size's.
    """

    title: str
    summary: str
    name: str
    marks: Sequence[Mark]
    x: XAxis = STEPS
    y: str = ""
    note: str = ""
    sizes: Sequence[str] = ("small",)
    scale: Literal["data", "zero", "log"] = "data"
    x_limits: tuple[float, float] | None = None
    y_limits: tuple[float, float] | None = None
    rows: Sequence[str] = ()
    columns: Sequence[str] = ()
    legend: Literal["best", "top"] = "best"
    height: float = 0.0

    @cached_property
    def forms(self) -> dict[str, Markup]:
        """The SVG elements by size, with unique ids and a title for screen readers."""
        return {size: _svg(self, size) for size in self.sizes}


def sentence(*parts: str) -> str:
    """The parts with a capital letter and a full stop, and semicolons between them."""
    text = "; ".join(part for part in parts if part)
    return text[:1].upper() + text[1:] + "."


def _svg(plot: Plot, size: str) -> Markup:
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    name = f"{plot.name}-{size}"
    settings: Any = {
        "svg.fonttype": "none",
        "svg.hashsalt": name,  # the same run gives the same file
        "font.size": 9,
        "font.family": "sans-serif",
        # A dollar sign in a name, of a class or a model, is no formula.
        "text.parse_math": False,
        **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
        **dict.fromkeys(("axes.edgecolor", "grid.color"), FAINT),
    }
    width, height = _SIZES[size]
    height = plot.height or max(height, 0.8 + 0.19 * len(plot.rows))
    with rc_context(settings):
        figure = Figure(figsize=(width, height), layout="constrained")
        canvas = FigureCanvasSVG(figure)
        figure.patch.set_alpha(0)
        axes = figure.add_subplot()
        axes.patch.set_alpha(0)
        for mark in plot.marks:
            mark.draw(axes)
        _set_up(axes, plot, 8 if size == "wide" else 5)
        output = io.StringIO()
        with warnings.catch_warnings():
            # Names too long for their place are cut off; whoever reads the page can do nothing about it.
            warnings.filterwarnings("ignore", message="constrained_layout not applied")
            canvas.print_svg(output, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    return _inline(output.getvalue(), name, plot.title, plot.summary)


def _set_up(axes: Axes, plot: Plot, ticks: int) -> None:
    """Scales, ticks, limits and legend, once everything is drawn; at most about ``ticks`` numbers below."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator

    axes.set(xlabel=plot.x.label, ylabel=plot.y)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(which="both", length=0, labelcolor=INK)
    axes.grid(axis="both" if plot.rows else "y", linewidth=0.8)
    axes.set_axisbelow(True)
    lines = [mark for mark in plot.marks if isinstance(mark, Line)]
    drawn = axes.dataLim
    if plot.rows:
        axes.set_yticks(range(len(plot.rows)), plot.rows)
        axes.set_ylim(len(plot.rows) - 0.4, -0.6)
    elif plot.scale == "log" or (plot.scale == "zero" and _has_spikes([y for line in lines for y in line.y])):
        # Matplotlib writes the names of these ticks as formulas.
        axes.set_yscale("log")
        low, high = axes.get_ylim()
        axes.yaxis.set_major_formatter(FuncFormatter(_tick_text))
        axes.yaxis.set_minor_locator(LogLocator(subs=(2, 5)))
        axes.yaxis.set_minor_formatter(FuncFormatter(_tick_text if high < 30 * low else lambda *_: ""))
    else:
        axes.yaxis.set_major_locator(MaxNLocator(nbins=5))
        axes.yaxis.set_major_formatter(FuncFormatter(_tick_text))
        if plot.scale == "zero" and drawn.y0 >= 0:
            axes.set_ylim(0, (1.2 if plot.legend == "top" else 1.06) * drawn.y1 or 1.0)
    if plot.columns:
        axes.set_xticks(range(len(plot.columns)), plot.columns)
        axes.set_xlim(-0.5, len(plot.columns) - 0.5)
    else:
        axes.xaxis.set_major_locator(MaxNLocator(nbins=ticks, integer=plot.x.whole))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: plot.x.text(value)))
        if plot.x.whole and drawn.width < 2:  # matplotlib would show fractions of a step
            half = max(0.5, 1e-9 * abs(drawn.x1))  # beside a large number one half is lost
            axes.set_xlim(drawn.x0 - half, drawn.x1 + half)
    axes.set(
        **({"xlim": plot.x_limits} if plot.x_limits else {}),
        **({"ylim": plot.y_limits} if plot.y_limits else {}),
    )
    labels = axes.get_legend_handles_labels()[1]
    if labels:
        top: Any = {"loc": "upper center", "ncols": len(labels), "columnspacing": 1.2, "handlelength": 1.5}
        place: Any = top if plot.legend == "top" else {"loc": "best", "handlelength": 2.2}
        axes.legend(frameon=False, labelcolor=INK, fontsize=8.5, **place)
    _mark_ends(axes, [line for line in lines if line.end])


def _has_spikes(values: Sequence[float]) -> bool:
    """Whether one point in twenty is so high that the rest would be a flat line."""
    ordered = sorted(values)
    return len(ordered) > 2 and ordered[0] > 0 and ordered[-1] > 30 * ordered[int(0.95 * (len(ordered) - 1))]


def _mark_ends(axes: Axes, lines: Sequence[Line]) -> None:
    """The text at the end of each line; texts that would lie over each other are moved apart."""
    axes.get_xlim()  # has the limits worked out
    to_axes = axes.transData + axes.transAxes.inverted()
    ends = [(*to_axes.transform((line.x[-1], line.y[-1])), line) for line in lines]
    apart, near = 0.075, 0.05
    placed: list[tuple[float, float]] = []
    for across, up, line in sorted(ends, key=lambda end: end[1]):
        for other_across, other_up in placed:
            if abs(other_across - across) < near and up - other_up < apart:
                up = other_up + apart
        placed.append((across, up))
        where: Any = {
            "xycoords": "axes fraction",
            "xytext": (5, 0),
            "textcoords": "offset points",
            "va": "center",
        }
        look: Any = {"color": line.color, "fontsize": 8.5, "fontweight": "bold", "annotation_clip": False}
        axes.annotate(line.end, (across, up), **where, **look)


def _tick_text(value: float, _place: int) -> str:
    """A number beside a tick, with commas from 1,000 on."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:g}" if abs(value) >= 1e-12 else "0"


def _inline(document: str, name: str, title: str, summary: str) -> Markup:
    """The ``<svg>`` element of a matplotlib file, made safe to stand beside others in a page."""
    body = document[document.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", body, flags=re.DOTALL)
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
