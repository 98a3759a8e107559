"""The curve of Best-of-N: expected reward against the number of samples, and against the KL bound."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hf_align.reporting.drawing import HERO, Plot, XAxis, sentence
from hf_align.reporting.marks import Band, Line, Mark, interval, points
from hf_align.runs.formatting import loss

SAMPLES = XAxis("n", "n, answers to choose from", "{:,.0f}".format, whole=True)
_NATS = XAxis("KL bound", "upper bound of the KL divergence, nats")


def best_of_n_plots(curve: Sequence[Mapping[str, Any]]) -> list[Plot]:
    """The plots that ``curve`` (entries of ``best_of_n_curve``) allows: none without two finite points."""
    known = [entry for entry in curve if points([entry], "n", "kl_bound", "reward")]
    if len(known) < 2:
        return []
    n, nats, rewards = zip(*points(known, "n", "kl_bound", "reward"), strict=True)
    limits = [interval(entry.get("interval")) for entry in known]
    plots: list[Plot] = []
    for title, places, x, place, sizes in (
        ("Reward of the best of n", n, SAMPLES, "n = {:g}", HERO),
        ("Reward against distance from the model", nats, _NATS, "{:.3g} nats", ("small",)),
    ):
        marks: list[Mark] = [Line(places, rewards, "expected reward", marker="o", size=3.5)]
        if all(limits):
            low, high = zip(*limits, strict=True)
            marks.insert(0, Band(places, low, high, "95 %, over prompts"))
        ends = [f"{loss(rewards[end])} at {place.format(places[end])}" for end in (0, -1)]
        summary = sentence(f"from {' to '.join(ends)}")
        plots.append(Plot(title, summary, f"best-of-n-{len(plots)}", marks, x, "reward", sizes=sizes))
    return plots
