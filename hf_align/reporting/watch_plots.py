"""Drawings of the watch over the reward: training reward against watch reward, and figures with their limits.

Where the watch fired is a vertical line. How drawings are made is in ``drawing``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any

from hf_align.reporting import formatting
from hf_align.reporting.drawing import (
    FIRST,
    FIRST_SOFT,
    INK,
    RUN_COLORS,
    SECOND,
    Plot,
    XAxis,
    bad_note,
    course,
    drawable,
    sentence,
    svg,
    thinned,
)
from hf_align.reporting.metrics import Series, training_rows
from hf_align.reporting.ppo_plots import ROLLOUTS
from hf_align.reporting.run_view import listing, mapping

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Row = Mapping[str, Any]

REWARD, REWARD_DEVIATION = "reward/total", "reward_std"
WATCHED, DEVIATION = "watch/", "watch_std/"

_LIMITED = (
    ("kl", "Distance from the reference and its limit", "KL estimate, nats per answer", formatting.loss),
    ("response_length", "Length and its limits", "tokens", formatting.loss),
    ("repetition", "Repetition and its limit", "share of repeated 4-grams", formatting.share),
)


def watch_plots(record: Row, rows: Sequence[Row]) -> list[Plot]:
    """The drawings that the metrics allow."""
    train = training_rows(rows)
    alarms = map(mapping, listing(mapping(record.get("reward_watch")).get("alarms")))
    at = {formatting.finite(alarm.get("rollout")) for alarm in alarms}
    fired = sorted(rollout for rollout in at if rollout is not None)
    names = [key for key in (train[-1] if train else {}) if key.startswith(WATCHED)]
    found = [_rewards_plot(train, names, fired, _window(record))] if names else []
    for key, title, label, form in _LIMITED:
        values = drawable(train, key)
        if values.values:
            limits = _limits(record, key, values.values)
            found.append(_limited_plot(f"watch-{key}", title, label, form, values, limits, fired))
    return [plot for plot in found if plot is not None]


def _rewards_plot(
    train: Sequence[Row], names: Sequence[str], fired: Sequence[float], window: int
) -> Plot | None:
    """All rewards in one unit: how far each is from its mean in the first rollouts, in standard deviations of
    the answers there."""
    trained = in_deviations(drawable(train, REWARD), drawable(train, REWARD_DEVIATION), window)
    watched = {
        name.removeprefix(WATCHED): in_deviations(
            drawable(train, name), drawable(train, name.replace(WATCHED, DEVIATION, 1)), window
        )
        for name in names
    }
    if not trained.values or not any(series.values for series in watched.values()):
        return None
    colors = [SECOND, *RUN_COLORS]

    def draw(axes: Axes) -> None:
        named = [("training reward", trained), *watched.items()]
        for (name, series), color in zip(named, cycle([FIRST, *colors]), strict=False):
            if not series.values:
                continue
            steps, values = thinned(series.steps, series.values)
            style: dict[str, Any] = {"color": color, "linewidth": 1.6}
            if series is not trained:
                style["linestyle"] = (0, (5, 2))
            if len(values) < 3:
                style |= {"linestyle": "none", "marker": "o", "markersize": 4}
            label = name if series is trained else f"watch reward {name}"
            axes.plot(steps, values, label=label, **style)
        _mark(axes, fired)
        axes.axhline(0, color=INK, linewidth=0.8, linestyle=(0, (1, 2)))
        axes.set_ylabel("standard deviations from the start")
        axes.legend(frameon=False, loc="best", labelcolor=INK, handlelength=2.2, fontsize=8.5)

    title = "Training reward against watch reward"
    described = [f"training reward {course(drawable(train, REWARD), formatting.loss)}"]
    described += [
        f"watch reward {name.removeprefix(WATCHED)} {course(drawable(train, name), formatting.loss)}"
        for name in names
        if drawable(train, name).values
    ]
    summary = _in_rollouts("; ".join(described))
    note = (
        f"Both start at 0: the mean of the first {window} rollouts is taken off, and the rest is divided by "
        "the standard deviation of the answers there."
    )
    forms = {
        size: svg(draw, f"watch-rewards-{size}", size, title, summary, ROLLOUTS)
        for size in ("wide", "narrow")
    }
    return Plot(title, summary, forms, note)


def in_deviations(values: Series, deviations: Series, window: int) -> Series:
    """``values`` less their mean over the first ``window`` points, in units of the mean of ``deviations``
    there; in their own unit where that is 0."""
    if not values.values:
        return values
    first = values.values[:window]
    mean = sum(first) / len(first)
    known = deviations.values[:window]
    unit = sum(known) / len(known) if known and sum(known) > 0 else 1.0
    return Series(values.steps, [(value - mean) / unit for value in values.values], values.bad_steps)


def _limited_plot(
    name: str,
    title: str,
    label: str,
    form: Any,
    values: Series,
    limits: Sequence[float],
    fired: Sequence[float],
) -> Plot:
    top = max(values.values)
    # A limit that is far away would flatten the curve; it is named below instead.
    shown = [limit for limit in limits if limit <= 3 * top or form is formatting.share]

    def draw(axes: Axes) -> None:
        steps, points = thinned(values.steps, values.values)
        style: dict[str, Any] = {"color": FIRST, "linewidth": 1.6}
        if len(points) < 3:
            style |= {"linestyle": "none", "marker": "o", "markersize": 4}
        axes.plot(steps, points, **style)
        for place, limit in enumerate(shown):
            line = {"color": SECOND, "linewidth": 1.2, "linestyle": (0, (4, 2))}
            axes.axhline(limit, label=None if place else "limit", **line)
        _mark(axes, fired)
        axes.set_ylim(0, 1.12 * max([top, *shown]) or 1.0)
        axes.set_ylabel(label)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False, loc="best", labelcolor=INK, handlelength=2.2, fontsize=8.5)

    said = course(values, form)
    if limits:
        words = "limit for the mean of a window is" if len(limits) == 1 else "limits for it are"
        said += f"; the {words} {' and '.join(map(form, limits))}"
    summary = _in_rollouts(said)
    drawing = svg(draw, name, "small", title, summary, ROLLOUTS)
    return Plot(title, summary, {"small": drawing}, bad_note(values))


def histogram(name: str, title: str, entry: Row) -> Plot | None:
    """How the first answers score under one reward; ``entry``: of ``reward_check`` in run.json."""
    edges, counts = listing(entry.get("edges")), listing(entry.get("counts"))
    if len(edges) < 2 or len(counts) != len(edges) - 1 or not sum(counts):
        return None

    def draw(axes: Axes) -> None:
        axes.stairs(counts, edges, color=FIRST_SOFT, fill=True, alpha=0.35)
        axes.stairs(counts, edges, color=FIRST, linewidth=1.6)
        axes.set_ylim(0, 1.1 * max(counts))
        axes.set_ylabel("answers")

    summary = sentence(
        f"{formatting.count(entry.get('answers'))} answers score from {formatting.loss(entry.get('min'))} to "
        f"{formatting.loss(entry.get('max'))}, {formatting.loss(entry.get('mean'))} on average"
    )
    x = XAxis("score", "score", lambda value: f"{value:g}")
    return Plot(title, summary, {"small": svg(draw, name, "small", title, summary, x)})


def _limits(record: Row, key: str, values: Sequence[float]) -> list[float]:
    """What the mean of a window may reach, by the recipe and the first window of ``values``."""
    recipe = mapping(record.get("recipe"))
    first = values[: _window(record)]
    start = sum(first) / len(first)
    if key == "kl":
        most = formatting.finite(recipe.get("watch_max_kl"))
        return [] if most is None else [most]
    if key == "repetition":
        rise = formatting.finite(recipe.get("watch_max_repetition_rise"))
        return [] if rise is None else [start + rise]
    ratio = formatting.finite(recipe.get("watch_max_length_ratio"))
    return [] if not ratio else [start / ratio, start * ratio]


def _window(record: Row) -> int:
    return int(formatting.finite(mapping(record.get("recipe")).get("watch_window")) or 1)


def _mark(axes: Axes, fired: Sequence[float]) -> None:
    for place, rollout in enumerate(fired):
        line = {"color": INK, "linewidth": 1.2, "linestyle": (0, (1, 1.5))}
        axes.axvline(rollout, label=None if place else "the watch fired", **line)


def _in_rollouts(text: str) -> str:
    return sentence(text.replace("steps ", "rollouts ").replace("at step ", "at rollout "))
