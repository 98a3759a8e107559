"""The plots of rejection-sampling fine-tuning: rewards over the rounds, and the best of n in each of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hf_align.best_of_n.plots import SAMPLES
from hf_align.reporting.drawing import HERO, Plot, XAxis, sentence
from hf_align.reporting.marks import DASHED, POINTS, SECOND, SOLID, Line, interval, look, points
from hf_align.reporting.run_view import listing, mapping
from hf_align.runs.formatting import finite, loss

_ROUNDS = XAxis("rounds", "round, 0 is the start", "{:,.0f}".format, whole=True)
MOST_CURVES = 4
"""Rounds with a curve of their own; of more rounds, so many from the first to the last."""

Curve = list[tuple[float, ...]]
"""(n, expected reward) of the best of n."""


def raft_plots(rounds: Sequence[Mapping[str, Any]]) -> list[Plot]:
    """The plots that the ``rounds`` of a run allow."""
    curves = {
        int(number): curve
        for entry in rounds
        if (number := finite(entry.get("round"))) is not None
        and len(curve := points(listing(mapping(entry.get("sampled")).get("curve")), "n", "reward")) > 1
    }
    plots = [_rewards(rounds, curves), _curves(curves)]
    return [plot for plot in plots if plot is not None]


def _rewards(rounds: Sequence[Mapping[str, Any]], curves: Mapping[int, Curve]) -> Plot | None:
    evaluated = [{"round": entry.get("round"), **mapping(entry.get("held_out"))} for entry in rounds]
    evaluated = [entry for entry in evaluated if points([entry], "round", "reward")]
    lines, told = [], []
    if curves:
        before = [number - 1 for number in curves]  # round n samples from the model of the round before
        for end, label, dashes, marker in ((0, "mean", SOLID, "o"), (-1, "best of n", DASHED, "^")):
            rewards = [curve[end][1] for curve in curves.values()]
            lines.append(Line(before, rewards, f"samples, {label}", dashes=dashes, marker=marker))
    if evaluated:
        places, values = zip(*points(evaluated, "round", "reward"), strict=True)
        limits = [interval(entry.get("interval")) for entry in evaluated]
        if all(limits):
            lines += [Line([x, x], pair, color=SECOND) for x, pair in zip(places, limits, strict=True)]
        label = "held-out prompts" + (", 95 %" if all(limits) else "")
        lines.append(Line(places, values, label, SECOND, dashes=POINTS, marker="D", size=5))
        count = f"{places[-1]:g} {'round' if places[-1] == 1 else 'rounds'}"
        told.append(f"held-out reward from {loss(values[0])} to {loss(values[-1])} in {count}")
    if curves:
        ends = [loss(curves[number][0][1]) for number in (min(curves), max(curves))]
        told.append(f"mean of the samples {' to '.join(dict.fromkeys(ends))}")
    if not lines:
        return None
    title, width = "Reward after each round", (-0.3, max(x for line in lines for x in line.x) + 0.3)
    return Plot(title, sentence(*told), "raft-reward", lines, _ROUNDS, "reward", sizes=HERO, x_limits=width)


def _curves(curves: Mapping[int, Curve]) -> Plot | None:
    if not curves:
        return None
    last = len(curves) - 1
    places = sorted({round(i * last / (MOST_CURVES - 1)) for i in range(MOST_CURVES)})
    lines, told = [], []
    for place, (number, curve) in enumerate(list(curves.items())[at] for at in places):
        n, rewards = zip(*curve, strict=True)
        lines.append(Line(n, rewards, f"sampled in round {number}", **look(place)))
        told.append(f"round {number}: {loss(rewards[0])} at n = 1, {loss(rewards[-1])} at n = {n[-1]:g}")
    summary = sentence(*dict.fromkeys((told[0], told[-1])))
    return Plot("Best of n in each round", summary, "raft-curves", lines, SAMPLES, "expected reward")
