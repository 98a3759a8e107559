"""The curve of Best-of-N: expected reward against the number of samples, and against the KL bound.

How drawings are made is in ``drawing``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hf_align.reporting import formatting
from hf_align.reporting.drawing import FIRST, FIRST_SOFT, INK, Plot, XAxis, sentence, svg
from hf_align.reporting.run_view import listing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SAMPLES = XAxis("n", "n, answers to choose from", lambda value: f"{value:,.0f}", whole=True)
NATS = XAxis("KL bound", "upper bound of the KL divergence, nats", lambda value: f"{value:g}")


def best_of_n_plots(curve: Sequence[Mapping[str, Any]]) -> list[Plot]:
    """The drawings that ``curve`` (entries of ``best_of_n_curve``) allows: none without two finite points."""
    points = [
        entry
        for entry in curve
        if all(formatting.finite(entry.get(key)) is not None for key in ("n", "reward", "kl_bound"))
    ]
    if len(points) < 2:
        return []
    return [
        _plot(points, "n", SAMPLES, "Reward of the best of n", ("wide", "narrow")),
        _plot(points, "kl_bound", NATS, "Reward against distance from the model", ("small",)),
    ]


def _plot(points: Sequence[Mapping[str, Any]], key: str, x: XAxis, title: str, sizes: Sequence[str]) -> Plot:
    places = [float(entry[key]) for entry in points]
    rewards = [float(entry["reward"]) for entry in points]
    limits = [[formatting.finite(limit) for limit in listing(entry.get("interval"))] for entry in points]
    known = all(len(pair) == 2 and None not in pair for pair in limits)

    def draw(axes: Axes) -> None:
        if known:
            low, high = zip(*limits, strict=True)
            label = "95 %, over prompts"
            axes.fill_between(places, low, high, color=FIRST_SOFT, alpha=0.35, linewidth=0, label=label)
        axes.plot(
            places, rewards, color=FIRST, linewidth=1.7, marker="o", markersize=3.5, label="expected reward"
        )
        axes.set_ylabel("reward")
        axes.legend(frameon=False, loc="lower right", labelcolor=INK, handlelength=1.8)

    def place(entry: Mapping[str, Any]) -> str:
        return f"n = {entry['n']}" if key == "n" else f"{entry[key]:.3g} nats"

    first, last = (
        f"{formatting.loss(entry['reward'])} at {place(entry)}" for entry in (points[0], points[-1])
    )
    summary = sentence(f"from {first} to {last}")
    drawings = {size: svg(draw, f"best-of-n-{key}-{size}", size, title, summary, x) for size in sizes}
    return Plot(title, summary, drawings)
