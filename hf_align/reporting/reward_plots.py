"""Drawings of what an evaluation of a reward model found: reliability, length bias, distributions of scores.

The curves over training are those of every stage that compares answers (``preference_plots``). How drawings
are made is in ``drawing``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from hf_align.evaluation.calibration import wilson_interval
from hf_align.reporting import formatting
from hf_align.reporting.drawing import (
    FAINT,
    FIRST,
    FIRST_SOFT,
    INK,
    SECOND,
    Plot,
    XAxis,
    sentence,
    svg,
)
from hf_align.reporting.run_view import listing, mapping

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LARGEST_MARKER = 90.0
"""Area of a marker that stands for all pairs, in square points."""


def reliability_plot(evaluations: Mapping[str, Any]) -> Plot | None:
    """Confidence against the share that was right, after training and before it."""
    tables = {
        when: [row for row in map(mapping, listing(mapping(evaluations.get(when)).get("reliability"))) if row]
        for when in ("after", "before")
    }
    if not any(tables.values()):
        return None

    def draw(axes: Axes) -> None:
        axes.plot([0.5, 1], [0.5, 1], color=INK, linewidth=1, linestyle=(0, (1, 2)), label="as it says")
        for when, color, face in (("before", SECOND, "none"), ("after", FIRST, FIRST)):
            rows = tables[when]
            if not rows:
                continue
            places = [row["confidence"] for row in rows]
            shares = [row["accuracy"] for row in rows]
            if when == "after":
                axes.plot(places, shares, color=FIRST_SOFT, linewidth=1.2)
            axes.scatter(
                places,
                shares,
                s=[12 + _LARGEST_MARKER * row["share"] for row in rows],
                edgecolors=color,
                facecolors=face,
                marker="o" if when == "after" else "D",
                linewidths=1.2,
                zorder=3,
            )
            # In the legend all markers have one size.
            marker = {"marker": "o" if when == "after" else "D", "markersize": 5, "markerfacecolor": face}
            axes.plot([], [], color=color, linestyle="none", label=f"{when} training", **marker)
        axes.set_xlim(0.485, 1.015)
        _legend_on_top(axes)
        axes.set_ylabel("share that was right")

    parts = [
        f"{when} training the calibration error is {formatting.loss(mapping(evaluations[when]).get('ece'))}"
        for when in ("before", "after")
        if tables[when]
    ]
    summary = sentence("; ".join(parts))
    x = XAxis("confidence", "confidence in the predicted order", lambda value: f"{value:g}")
    drawing = svg(draw, "reward-reliability", "small", "Reliability", summary, x)
    note = "A marker's area grows with its share of the pairs; above the dotted line the model is too modest."
    return Plot("Reliability", summary, {"small": drawing}, note)


def length_plot(evaluations: Mapping[str, Any]) -> Plot | None:
    """Accuracy by the difference in length of the two answers, with 95 % intervals."""
    rows = {
        when: _quantiles(mapping(evaluations.get(when)))
        for when in ("after", "before")
        if _quantiles(mapping(evaluations.get(when)))
    }
    if not rows:
        return None
    bins = next(iter(rows.values()))
    labels = [_range(row) for row in bins]

    def draw(axes: Axes) -> None:
        axes.axhline(0.5, color=INK, linewidth=1, linestyle=(0, (1, 2)), label="chance")
        for when, color, face, shift in (
            ("before", SECOND, "none", -0.09),
            ("after", FIRST, FIRST, 0.09),
        ):
            if when not in rows:
                continue
            prompts = float(mapping(evaluations[when]).get("prompts") or 0)
            low, high = zip(
                *(wilson_interval(row["accuracy"], row["share"] * prompts) for row in rows[when]), strict=True
            )
            shares = [row["accuracy"] for row in rows[when]]
            axes.errorbar(
                [place + shift for place in range(len(shares))],
                shares,
                yerr=[
                    [max(0.0, share - limit) for share, limit in zip(shares, low, strict=True)],
                    [max(0.0, limit - share) for share, limit in zip(shares, high, strict=True)],
                ],
                color=color,
                linestyle="none",
                marker="o" if when == "after" else "D",
                markersize=5,
                markerfacecolor=face,
                elinewidth=1.1,
                label=f"{when} training",
            )
        axes.set_xlim(-0.5, len(labels) - 0.5)
        _legend_on_top(axes)
        axes.set_ylabel("share in the right order")

    def label(value: float) -> str:
        place = round(value)
        return labels[place] if abs(value - place) < 1e-6 and 0 <= place < len(labels) else ""

    title = "Accuracy by difference in length"
    when = "after" if "after" in rows else "before"
    listed = ", ".join(
        f"{formatting.share(row['accuracy'])} at {_range(row).replace(chr(10), ' ')}" for row in rows[when]
    )
    summary = sentence(f"{when} training {listed} tokens (better minus worse answer)")
    x = XAxis("length", "tokens of the better answer minus those of the worse", label, whole=True)
    return Plot(title, summary, {"small": svg(draw, "reward-length", "small", title, summary, x)})


def score_plot(evaluation: Mapping[str, Any], when: str) -> Plot | None:
    """How the scores of better and worse answers are distributed; ``when``: ``before`` or ``after``."""
    found = mapping(evaluation.get("scores"))
    edges, better, worse = (listing(found.get(name)) for name in ("edges", "better", "worse"))
    if len(edges) < 2 or len(better) != len(edges) - 1 or len(worse) != len(better):
        return None

    def draw(axes: Axes) -> None:
        axes.stairs(better, edges, color=FIRST, linewidth=1.6, label="better answers")
        axes.stairs(better, edges, color=FIRST_SOFT, fill=True, alpha=0.35)
        axes.stairs(worse, edges, color=SECOND, linewidth=1.6, linestyle=(0, (5, 2)), label="worse answers")
        if edges[0] < 0 < edges[-1]:
            axes.axvline(0, color=FAINT, linewidth=1.1)
        axes.set_ylim(0, 1.2 * max([*better, *worse]))
        axes.set_ylabel("share of the answers")
        axes.legend(
            frameon=False, loc="upper center", ncols=2, labelcolor=INK, handlelength=1.8, fontsize=8.5
        )

    title = f"Scores {when} training"
    means = [_mean_of(edges, heights) for heights in (better, worse)]
    summary = sentence(
        f"better answers score about {means[0]:.2g} on average and worse ones {means[1]:.2g}; all lie "
        f"between {edges[0]:.3g} and {edges[-1]:.3g}"
    )
    x = XAxis("score", "score", lambda value: f"{value:g}")
    return Plot(title, summary, {"small": svg(draw, f"reward-scores-{when}", "small", title, summary, x)})


def reward_plots(evaluations: Mapping[str, Any]) -> list[Plot]:
    """The drawings that the evaluations allow."""
    plots = [
        reliability_plot(evaluations),
        length_plot(evaluations),
        *(score_plot(mapping(evaluations.get(when)), when) for when in ("before", "after")),
    ]
    return [plot for plot in plots if plot is not None]


def _legend_on_top(axes: Axes) -> None:
    """Shares from 0 to 1, and the legend in a line above them."""
    axes.set_ylim(-0.03, 1.2)
    axes.legend(
        frameon=False,
        loc="upper center",
        ncols=3,
        labelcolor=INK,
        handlelength=1.2,
        columnspacing=1.2,
        fontsize=8.5,
    )


def _quantiles(evaluation: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [mapping(row) for row in listing(mapping(evaluation.get("by_length")).get("quantiles")) if row]


def _range(row: Mapping[str, Any]) -> str:
    low, high = f"{row['lower']:.0f}".replace("-", "−"), f"{row['upper']:.0f}".replace("-", "−")
    return low if low == high else f"{low}\nto {high}"


def _mean_of(edges: Sequence[float], heights: Sequence[float]) -> float:
    middles = [(low + high) / 2 for low, high in pairwise(edges)]
    weighted = sum(middle * height for middle, height in zip(middles, heights, strict=True))
    return weighted / (sum(heights) or 1.0)
