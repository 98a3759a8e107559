"""The drawings of rejection-sampling fine-tuning: rewards over the rounds, and the best of n in each of them.

How drawings are made is in ``drawing``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hf_align.reporting import formatting
from hf_align.reporting.best_of_n_plots import SAMPLES
from hf_align.reporting.drawing import FIRST, FIRST_SOFT, INK, SECOND, Plot, XAxis, sentence, svg
from hf_align.reporting.run_view import listing, mapping

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Row = Mapping[str, Any]

ROUNDS = XAxis("rounds", "round, 0 is the start", lambda value: f"{value:,.0f}", whole=True)
_LINES: tuple[tuple[str, Any], ...] = (
    (FIRST, "solid"),
    (SECOND, (0, (5, 2))),
    (INK, (0, (1, 1.5))),
    (FIRST_SOFT, (0, (5, 2, 1, 2))),
)
MOST_CURVES = len(_LINES)
"""Rounds with a curve of their own; of more rounds, so many from the first to the last."""


def raft_plots(rounds: Sequence[Row]) -> list[Plot]:
    """The drawings that the ``rounds`` of a run allow."""
    found = [_rewards(rounds), _curves(rounds)]
    return [plot for plot in found if plot is not None]


def _rewards(rounds: Sequence[Row]) -> Plot | None:
    held_out = [
        (int(entry["round"]), mapping(entry.get("held_out")))
        for entry in rounds
        if formatting.finite(mapping(entry.get("held_out")).get("reward")) is not None
    ]
    sampled = [
        (int(entry["round"]) - 1, [mapping(point) for point in curve])
        for entry in rounds
        if len(curve := listing(mapping(entry.get("sampled")).get("curve"))) > 1
    ]
    if not held_out and not sampled:
        return None

    def draw(axes: Axes) -> None:
        for index, label, style in (
            (0, "samples, mean", {"linestyle": "solid", "marker": "o", "markersize": 4.5}),
            (-1, "samples, best of n", {"linestyle": (0, (5, 2)), "marker": "^", "markersize": 5}),
        ):
            if sampled:
                places = [number for number, _ in sampled]
                values = [float(curve[index]["reward"]) for _, curve in sampled]
                axes.plot(places, values, color=FIRST, linewidth=1.6, label=label, **style)
        if held_out:
            places, values = zip(*((n, float(one["reward"])) for n, one in held_out), strict=True)
            limits = [[formatting.finite(x) for x in listing(one.get("interval"))] for _, one in held_out]
            errors = None
            if all(len(pair) == 2 and None not in pair for pair in limits):
                low = [value - pair[0] for value, pair in zip(values, limits, strict=True)]
                high = [pair[1] - value for value, pair in zip(values, limits, strict=True)]
                errors = [[max(0.0, x) for x in low], [max(0.0, x) for x in high]]
            axes.errorbar(
                places,
                values,
                yerr=errors,
                color=SECOND,
                fmt="D",
                markersize=5,
                capsize=3,
                label="held-out prompts" + (", 95 %" if errors else ""),
            )
        axes.set_ylabel("reward")
        axes.set_xlim(-0.3, max([n for n, _ in held_out] + [n for n, _ in sampled]) + 0.3)
        axes.legend(frameon=False, loc="best", labelcolor=INK, handlelength=2.2, fontsize=8.5)

    parts = []
    if held_out:
        first, last = held_out[0][1], held_out[-1][1]
        change = f"from {formatting.loss(first['reward'])} to {formatting.loss(last['reward'])}"
        count = held_out[-1][0]
        parts.append(f"held-out reward {change} in {count} {'round' if count == 1 else 'rounds'}")
    if sampled:
        ends = [formatting.loss(curve[0]["reward"]) for _, curve in (sampled[0], sampled[-1])]
        parts.append(f"mean of the samples {' to '.join(dict.fromkeys(ends))}")
    title, summary = "Reward after each round", sentence("; ".join(parts))
    forms = {
        size: svg(draw, f"raft-reward-{size}", size, title, summary, ROUNDS) for size in ("wide", "narrow")
    }
    return Plot(title, summary, forms)


def _curves(rounds: Sequence[Row]) -> Plot | None:
    known = [
        (int(entry["round"]), [mapping(point) for point in curve])
        for entry in rounds
        if len(curve := listing(mapping(entry.get("sampled")).get("curve"))) > 1
    ]
    if not known:
        return None
    last = len(known) - 1
    places = sorted({round(i * last / (MOST_CURVES - 1)) for i in range(MOST_CURVES)}) if last else [0]
    shown = [known[place] for place in places]

    def draw(axes: Axes) -> None:
        for place, (number, curve) in enumerate(shown):
            axes.plot(
                [int(point["n"]) for point in curve],
                [float(point["reward"]) for point in curve],
                color=_LINES[place][0],
                linestyle=_LINES[place][1],
                linewidth=1.7,
                label=f"sampled in round {number}",
            )
        axes.set_ylabel("expected reward")
        axes.legend(frameon=False, loc="best", labelcolor=INK, handlelength=2.2, fontsize=8.5)

    said = [
        f"round {number}: {formatting.loss(curve[0]['reward'])} at n = 1, "
        f"{formatting.loss(curve[-1]['reward'])} at n = {curve[-1]['n']}"
        for number, curve in (shown[0], shown[-1])
    ]
    title, summary = "Best of n in each round", sentence("; ".join(dict.fromkeys(said)))
    return Plot(title, summary, {"small": svg(draw, "raft-curves-small", "small", title, summary, SAMPLES)})
