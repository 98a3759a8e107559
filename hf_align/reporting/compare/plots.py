"""The curves of several runs over each other.

Every number that any of the runs logged is drawn, whatever the stage: nothing but the order and the titles of
well-known quantities is fixed here. A run keeps its colour, dashes, marker and letter in every plot.
"""

from __future__ import annotations

import bisect
from collections.abc import Mapping, Sequence
from typing import Any

from hf_align.reporting.compare.runs import ComparedRun
from hf_align.reporting.drawing import HERO, STEPS, Plot, XAxis
from hf_align.reporting.marks import MARKERS, RUN_COLORS
from hf_align.reporting.plots import MANY_POINTS, RUN_TABLE, Curves, bad_note, drawable, line, scale_of
from hf_align.runs import formatting
from hf_align.runs.metrics import Series, elapsed_seconds, logged_keys, rows_with, seen_so_far

DASHES: tuple[tuple[float, ...], ...] = (
    (), (6, 2), (2, 1.5), (8, 2, 2, 2), (4, 1.5, 1, 1.5, 1, 1.5), (11, 3), (1, 2.5), (8, 2, 1, 2, 1, 2),
)  # fmt: skip
"""In line widths."""
_FEW_POINTS = 12

_LISTED = (
    Curves("Training loss", "loss", {"loss": ""}),
    Curves("Held-out loss", "loss", {"eval_loss": ""}),
    Curves("Held-out tokens right", "", {"eval_token_accuracy": ""}, formatting.share),
    Curves("Held-out pairs in the right order", "", {"eval_rewards/accuracies": ""}, formatting.share),
    Curves("Pairs in the right order", "", {"rewards/accuracies": ""}, formatting.share),
    Curves("Held-out reward margin", "", {"eval_rewards/margins": ""}),
    Curves("Reward margin", "", {"rewards/margins": ""}),
    Curves("Held-out change of the chosen answers", "nats per token", {"eval_logps/chosen_change": ""}),
    Curves("Change of the chosen answers", "nats per token", {"logps/chosen_change": ""}),
    *RUN_TABLE,
)
_KNOWN = {key: entry for entry in _LISTED for key in entry.keys}
_HEROES = ("loss", "eval_loss")
_MINOR = ("target_tokens", "eval_target_tokens", "eval_perplexity", "prompts", "eval_prompts")
_STEADY = ("learning_rate", "peak_memory_bytes")


def run_style(number: int) -> tuple[str, tuple[float, ...], str]:
    """(colour, dashes, marker) of run ``number``, from 0; the first 64 all differ."""
    turn, place = divmod(number, len(RUN_COLORS))
    other = (place + turn) % len(DASHES)
    return RUN_COLORS[place], DASHES[other], MARKERS[other]


def comparison_plots(runs: Sequence[ComparedRun]) -> tuple[list[Plot], list[Plot]]:
    """(what to look at first, what repeats it or never changes), as far as the runs' metrics allow.

    Losses come first, over steps, time and tokens.
    """
    logged = list(dict.fromkeys(key for run in runs for key in logged_keys(run.log.rows)))
    plots: list[Plot] = []
    minor: list[Plot] = []
    for key in sorted(logged, key=lambda key: list(_KNOWN).index(key) if key in _KNOWN else len(_KNOWN)):
        curves = {place: drawable(rows_with(run.log.rows, key), key) for place, run in enumerate(runs)}
        curves = {place: curve for place, curve in curves.items() if curve.values}
        if not curves:
            continue
        name = f"plot-{logged.index(key)}"
        constant = all(len(set(curve.values)) == 1 for curve in curves.values()) and key not in _KNOWN
        (minor if constant or key in _MINOR else plots).append(_plot(runs, key, curves, STEPS, name))
        for axis, places in _other_axes(runs) if key in _HEROES else []:
            moved = {place: _over(curve, places[place]) for place, curve in curves.items()}
            moved = {place: curve for place, curve in moved.items() if curve.values}
            if any(len(set(curve.steps)) > 1 for curve in moved.values()):
                plots.append(_plot(runs, key, moved, axis, f"{name}-{axis.name}"))
    return plots, minor


def _other_axes(runs: Sequence[ComparedRun]) -> list[tuple[XAxis, list[dict[float, float]]]]:
    """Axes other than steps, each with the value by step of every run."""
    seconds = [elapsed_seconds(run.log.rows) for run in runs]
    longest = max((max(times.values(), default=0.0) for times in seconds), default=0.0)
    scale, unit = next(
        (scale, unit) for scale, unit in ((3600, "hours"), (60, "minutes"), (1, "seconds"))
        if longest >= 2 * scale or scale == 1
    )  # fmt: skip
    times = [{step: value / scale for step, value in one.items()} for one in seconds]
    tokens = [seen_so_far(run.log.rows, "target_tokens") for run in runs]
    return [
        (XAxis("time", f"{unit} since the start"), times),
        (XAxis("tokens", "target tokens seen", formatting.short_count), tokens),
    ]


def _over(curve: Series, places: Mapping[float, float]) -> Series:
    """``curve`` over another quantity, given by step: that of the same step, else of the last one before."""
    steps, values = [], []
    known = sorted(places)
    for step, value in zip(curve.steps, curve.values, strict=True):
        before = bisect.bisect_right(known, step)
        if before or (known and step == 0):
            steps.append(places[known[before - 1]] if before else 0.0)
            values.append(value)
    return Series(steps, values, [])


def _plot(
    runs: Sequence[ComparedRun], key: str, curves: Mapping[int, Series], axis: XAxis, name: str
) -> Plot:
    entry = _KNOWN.get(key, Curves(key, "", {key: ""}))
    scale, y = scale_of(entry, [value for curve in curves.values() for value in curve.values])
    noisy = key not in _STEADY and not key.startswith("eval_")
    lines, smoothed = [], False
    for place, curve in curves.items():
        color, dashes, marker = run_style(place)
        smooth = noisy and len(curve.values) >= MANY_POINTS
        style: dict[str, Any] = {"color": color, "dashes": dashes, "end": runs[place].mark, "smooth": smooth}
        style["marker"] = marker if len(curve.values) <= _FEW_POINTS else ""
        lines.append(line(curve, scale, **style))
        smoothed = smoothed or smooth
    last = "; ".join(
        f"{runs[place].mark} {entry.form(curve.values[-1])}{entry.unit}" for place, curve in curves.items()
    )
    note = "Smoothed over a fifteenth of the points." if smoothed else ""
    note = " ".join(filter(None, (note, bad_note(*curves.values()))))
    title = entry.title if axis is STEPS else f"{entry.title} over {axis.name}"
    sizes = HERO if key in _HEROES and axis is STEPS else ("small",)
    return Plot(title, f"Last values: {last}.", name, lines, axis, y, note, sizes, "zero")


def legend(runs: Sequence[ComparedRun]) -> list[dict[str, str]]:
    """Colour (as the page names it), dashes (as SVG writes them), letter and name of every run."""
    return [
        {
            "color": f"var(--run-{RUN_COLORS.index(color) + 1})",
            "dashes": " ".join(f"{1.6 * part:g}" for part in dashes),
            "mark": run.mark,
            "name": run.name,
        }
        for run, (color, dashes, _) in zip(runs, map(run_style, range(len(runs))), strict=True)
    ]
