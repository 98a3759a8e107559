"""The curves of several runs over each other.

Every number that any of the runs logged is drawn, whatever the stage: nothing but the order and the titles of
well-known quantities is fixed here. A run keeps its colour, its dashes, its marker and its letter in all
drawings.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hf_align.reporting import formatting
from hf_align.reporting.compared_run import ComparedRun
from hf_align.reporting.drawing import (
    RUN_COLORS,
    STEPS,
    Plot,
    XAxis,
    bad_note,
    binary_unit,
    limit_spikes,
    start_at_zero,
    svg,
    thinned,
    within_limits,
)
from hf_align.reporting.metrics import (
    Series,
    elapsed_seconds,
    logged_keys,
    rows_with,
    seen_so_far,
    series,
    smoothed,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DASHES = ("", "6 2", "2 1.5", "8 2 2 2", "4 1.5 1 1.5 1 1.5", "11 3", "1 2.5", "8 2 1 2 1 2")
"""As SVG writes them, in line widths."""

_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
_FEW_POINTS = 12
_MANY_POINTS = 30

# What is known by name: (title, label of the axis, form of its values).
_KNOWN: dict[str, tuple[str, str, Callable[[Any], str]]] = {
    "loss": ("Training loss", "loss", formatting.loss),
    "eval_loss": ("Held-out loss", "loss", formatting.loss),
    "eval_token_accuracy": ("Held-out tokens right", "", formatting.share),
    "eval_rewards/accuracies": ("Held-out pairs in the right order", "", formatting.share),
    "rewards/accuracies": ("Pairs in the right order", "", formatting.share),
    "eval_rewards/margins": ("Held-out reward margin", "", formatting.loss),
    "rewards/margins": ("Reward margin", "", formatting.loss),
    "eval_logps/chosen_change": (
        "Held-out change of the better answers",
        "nats per token",
        formatting.loss,
    ),
    "logps/chosen_change": ("Change of the better answers", "nats per token", formatting.loss),
    "learning_rate": ("Learning rate", "", formatting.loss),
    "grad_norm": ("Gradient norm", "", formatting.loss),
    "tokens_per_second": ("Throughput", "tokens/s", formatting.rate),
    "peak_memory_bytes": ("Peak memory", "", formatting.size),
}
_HEROES = ("loss", "eval_loss")
_MINOR = ("target_tokens", "eval_target_tokens", "eval_perplexity", "prompts", "eval_prompts")
_STEADY = ("learning_rate", "peak_memory_bytes")


def run_style(number: int) -> tuple[str, str, str]:
    """(colour of the drawing, dashes, marker) of run ``number``, from 0; the first 64 all differ."""
    turn, place = divmod(number, len(RUN_COLORS))
    return (
        RUN_COLORS[place],
        DASHES[(place + turn) % len(DASHES)],
        _MARKERS[(place + turn) % len(_MARKERS)],
    )


def comparison_plots(runs: Sequence[ComparedRun]) -> tuple[list[Plot], list[Plot]]:
    """(what to look at first, what repeats it or never changes), as far as the runs' metrics allow.

    Losses come first, over steps, time and tokens.
    """
    logged = list(dict.fromkeys(key for run in runs for key in logged_keys(run.log.rows)))
    plots: list[Plot] = []
    minor: list[Plot] = []
    for key in [*(key for key in _KNOWN if key in logged), *(key for key in logged if key not in _KNOWN)]:
        curves = {place: within_limits(_curve(run, key)) for place, run in enumerate(runs)}
        curves = {place: curve for place, curve in curves.items() if curve.values}
        if not curves:
            continue
        constant = all(len(set(curve.values)) == 1 for curve in curves.values()) and key not in _KNOWN
        plot = _plot(runs, key, curves, STEPS, f"plot-{logged.index(key)}")
        (minor if constant or key in _MINOR else plots).append(plot)
        if key in _HEROES:
            for axis, places in _other_axes(runs):
                moved = {place: _over(curve, places[place]) for place, curve in curves.items()}
                moved = {place: curve for place, curve in moved.items() if curve.values}
                if any(len(set(curve.steps)) > 1 for curve in moved.values()):
                    plots.append(_plot(runs, key, moved, axis, f"plot-{logged.index(key)}-{axis.name}"))
    return plots, minor


def _curve(run: ComparedRun, key: str) -> Series:
    return series(rows_with(run.log.rows, key), key)


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
        (XAxis("time", f"{unit} since the start", lambda value: f"{value:g}"), times),
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
    title, label, form = _KNOWN.get(key, (key, "", formatting.loss))
    noisy = key not in _STEADY and not key.startswith("eval_")
    smooth = {place for place, curve in curves.items() if noisy and len(curve.values) > _MANY_POINTS}
    over = "" if axis is STEPS else f" over {axis.name}"
    every = [value for curve in curves.values() for value in curve.values]
    scale, unit = binary_unit(every) if form is formatting.size else (1.0, label)

    def draw(axes: Axes) -> None:
        shown: list[float] = []
        ends: list[tuple[float, float, int]] = []
        for place, curve in curves.items():
            values = smoothed(curve.values) if place in smooth else curve.values
            steps, values = thinned(curve.steps, [value / scale for value in values])
            color, dashes, marker = run_style(place)
            line: dict[str, Any] = {"color": color, "linewidth": 1.6}
            if dashes:
                line["linestyle"] = (0, tuple(float(part) for part in dashes.split()))
            if len(values) <= _FEW_POINTS:
                line |= {"marker": marker, "markersize": 4.5}
            if len(values) < 3:  # a line between two points would claim a course that nobody measured
                line["linestyle"] = "none"
            axes.plot(steps, values, **line)
            shown += values
            ends.append((steps[-1], values[-1], place))
        axes.set_ylabel(unit)
        limit_spikes(axes, shown)
        start_at_zero(axes, shown)
        _mark_ends(axes, ends, runs)

    summary = "; ".join(
        f"{runs[place].mark} {form(curve.values[-1])}{f' {label}' if label == 'tokens/s' else ''}"
        for place, curve in curves.items()
    )
    summary = f"Last values: {summary}."
    note = "Smoothed over a fifteenth of the points." if smooth else ""
    note = " ".join(part for part in (note, bad_note(*curves.values())) if part)
    hero = key in _HEROES and axis is STEPS
    forms = {
        size: svg(draw, f"{name}-{size}", size, title + over, summary, axis)
        for size in (("wide", "narrow") if hero else ("small",))
    }
    return Plot(title + over, summary, forms, note)


def _mark_ends(axes: Axes, ends: Sequence[tuple[float, float, int]], runs: Sequence[ComparedRun]) -> None:
    """Each run's letter at the end of its curve; letters that would lie over each other are moved apart."""
    left, right = axes.get_xlim()
    width = (right - left) or 1.0
    low, high = axes.transScale.transform([(0, limit) for limit in axes.get_ylim()])[:, 1]
    height = (high - low) or 1.0
    places = []
    for x, y, run in ends:
        across = axes.transScale.transform((x, y))[1]
        places.append([(x - left) / width, (across - low) / height, run])
    apart, near = 0.075, 0.05
    placed: list[list[float]] = []
    for place in sorted(places, key=lambda item: item[1]):
        for other in placed:
            if abs(other[0] - place[0]) < near and place[1] - other[1] < apart:
                place[1] = other[1] + apart
        placed.append(place)
    for across, up, run in placed:
        axes.annotate(
            runs[int(run)].mark,
            (across, up),
            xycoords="axes fraction",
            xytext=(5, 0),
            textcoords="offset points",
            color=run_style(int(run))[0],
            va="center",
            fontsize=8.5,
            fontweight="bold",
            annotation_clip=False,
        )


def legend(runs: Sequence[ComparedRun]) -> list[dict[str, str]]:
    """Colour (as the page names it), dashes, letter and name of every run."""
    shown = []
    for number, run in enumerate(runs):
        color, dashes, _ = run_style(number)
        scaled = " ".join(f"{1.6 * float(part):g}" for part in dashes.split())
        shown.append(
            {
                "color": f"var(--run-{RUN_COLORS.index(color) + 1})",
                "dashes": scaled,
                "mark": run.mark,
                "name": run.name,
            }
        )
    return shown
