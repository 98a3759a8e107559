"""What a plot is made of, as data: lines and points, bands, levels, histograms, matrices.

Each mark puts itself on the axes of matplotlib and knows nothing of the page. A colour here appears nowhere
else in a drawing, and ``drawing`` replaces it by a variable of the style sheet.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from hf_align.runs.formatting import finite

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_POINTS = 600
"""Points drawn per curve; more would be invisible and would make the page heavy."""

INK, FAINT, FIRST, FIRST_SOFT, SECOND = "#010101", "#010102", "#010103", "#010104", "#010105"
RUN_COLORS = tuple(f"#01020{number}" for number in range(1, 9))

Dashes = tuple[float, ...] | None
"""Lengths of strokes and gaps in turn, in line widths; None joins no points."""
SOLID, DASHED, DOTTED, POINTS = (), (5, 2), (1, 2), None
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")


@dataclass(frozen=True)
class Line:
    """Points in order, joined, marked, or both. ``size``: of the markers, in points, for all or for each;
    ``end``: text beside the last point."""

    x: Sequence[float]
    y: Sequence[float]
    label: str = ""
    color: str = FIRST
    width: float = 1.6
    dashes: Dashes = SOLID
    marker: str = ""
    size: float | Sequence[float] = 4.5
    hollow: bool = False
    end: str = ""

    def draw(self, axes: Axes) -> None:
        face = "none" if self.hollow else self.color
        if isinstance(self.size, Sequence):
            look: Any = {"facecolors": face, "edgecolors": self.color, "linewidths": 1.2, "zorder": 3}
            areas = [size**2 for size in self.size]
            axes.scatter(self.x, self.y, s=areas, marker=self.marker, label=self.label or None, **look)
        else:
            look = {"marker": self.marker, "markersize": self.size, "markerfacecolor": face}
            look |= _stroke(self.color, self.width, self.dashes)
            axes.plot(*thinned(self.x, self.y), label=self.label, **look)


@dataclass(frozen=True)
class Band:
    """The area between ``low`` and ``high``."""

    x: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]
    label: str = ""

    def draw(self, axes: Axes) -> None:
        look: Any = {"color": FIRST_SOFT, "alpha": 0.35, "linewidth": 0, "label": self.label}
        axes.fill_between(self.x, self.low, self.high, **look)


@dataclass(frozen=True)
class Level:
    """A straight line through the whole plot at each of some values ``at`` of the axis ``of``."""

    at: Sequence[float]
    label: str = ""
    color: str = INK
    width: float = 1.0
    dashes: Dashes = DOTTED
    of: Literal["x", "y"] = "y"

    def draw(self, axes: Axes) -> None:
        line = axes.axhline if self.of == "y" else axes.axvline
        for place, value in enumerate(self.at):
            line(value, label="" if place else self.label, **_stroke(self.color, self.width, self.dashes))


@dataclass(frozen=True)
class Histogram:
    """``heights`` between neighbouring ``edges``, which are one more."""

    edges: Sequence[float]
    heights: Sequence[float]
    label: str = ""
    color: str = FIRST
    dashes: Dashes = SOLID

    def draw(self, axes: Axes) -> None:
        if self.color == FIRST:
            axes.stairs(self.heights, self.edges, color=FIRST_SOFT, fill=True, alpha=0.35)
        axes.stairs(
            self.heights, self.edges, label=self.label or None, **_stroke(self.color, 1.6, self.dashes)
        )


@dataclass(frozen=True)
class Matrix:
    """Counts in squares, each as strong as its share of its row; the diagonal has a colour of its own."""

    counts: Sequence[Sequence[float]]
    names: Sequence[str]

    def draw(self, axes: Axes) -> None:
        from matplotlib.patches import Rectangle

        text: Any = {"color": INK, "fontsize": 8}
        for i, (row, name) in enumerate(zip(self.counts, self.names, strict=True)):
            for j, count in enumerate(row):
                look: Any = {"facecolor": FIRST if i == j else SECOND, "alpha": 0.5 * count / (sum(row) or 1)}
                axes.add_patch(Rectangle((j - 0.48, i - 0.48), 0.96, 0.96, **look))
                if count:
                    axes.text(j, i, f"{count:,.0f}", ha="center", va="center", **text)
            axes.text(-0.6, i, name, ha="right", va="center", **text)
            axes.text(i, -0.6, name, ha="left", va="bottom", rotation=35, **text)
        axes.set(xlim=(-0.5, len(self.names) - 0.5), ylim=(len(self.names) - 0.5, -0.5))
        axes.yaxis.set_visible(False)
        axes.tick_params(labelbottom=False)
        axes.spines[["bottom"]].set_visible(False)


def look(number: int, *, dots: bool = False) -> dict[str, Any]:
    """Fields of the ``Line`` of series ``number``, from 0. The first 12 lines and the first 24 dots all
    differ, and neighbours by more than their colour."""
    color = (FIRST, SECOND, INK)[number % 3]
    if dots:
        return {"color": color, "dashes": POINTS, "marker": MARKERS[number % len(MARKERS)]}
    return {"color": color, "dashes": (SOLID, DASHED, DOTTED, (5, 2, 1, 2))[number % 4]}


Mark = Line | Band | Level | Histogram | Matrix


def points(rows: Iterable[Any], *keys: Any) -> list[tuple[float, ...]]:
    """What each of the ``rows`` holds under ``keys``; a row without a finite number under one is left out."""
    read = ([finite(row.get(key)) for key in keys] for row in rows if isinstance(row, Mapping))
    return [tuple(value for value in values if value is not None) for values in read if None not in values]


def numbers(values: Any) -> tuple[float, ...]:
    """``values`` as they are where all are finite numbers, else nothing."""
    read = [finite(value) for value in values] if isinstance(values, list | tuple) else []
    return tuple(value for value in read if value is not None) if None not in read else ()


def interval(limits: Any) -> tuple[float, ...]:
    """Both ends of an interval; nothing where there are not two finite ones."""
    return found if len(found := numbers(limits)) == 2 else ()


def thinned(steps: Sequence[float], values: Sequence[float]) -> tuple[Sequence[float], Sequence[float]]:
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


def _stroke(color: str, width: float, dashes: Dashes) -> dict[str, Any]:
    style: Any = "none" if dashes is None else (0, dashes) if dashes else "solid"
    return {"color": color, "linewidth": width, "linestyle": style}
