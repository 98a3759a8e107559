"""Plots of the watch over the reward: training reward against watch reward, and metrics with their limits.

Where the watch fired is a vertical line.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hf_align.reporting.drawing import HERO, Plot, XAxis, sentence
from hf_align.reporting.marks import SECOND, Histogram, Level, Mark, look, numbers
from hf_align.reporting.plots import Curves, curve_plots, drawable, line, trend
from hf_align.reporting.run_view import mapping
from hf_align.rl.plots import ROLLOUTS
from hf_align.rl.record import PpoRecord
from hf_align.runs import formatting
from hf_align.runs.metrics import Series, training_rows

Row = Mapping[str, Any]

REWARD, REWARD_DEVIATION = "reward/total", "reward_std"
WATCHED, DEVIATION = "watch/", "watch_std/"

LIMITED = (
    Curves("KL to the reference and its limit", "KL estimate, nats per answer", {"kl": ""}),
    Curves("Length and its limits", "tokens", {"response_length": ""}),
    Curves("Repetition and its limit", "share of repeated 4-grams", {"repetition": ""}, formatting.share),
)


def watch_plots(record: Row, rows: Sequence[Row]) -> list[Plot]:
    """The plots that the metrics allow."""
    train = training_rows(rows)
    record = PpoRecord.of(record)
    alarms, recipe = map(mapping, record.reward_watch.alarms), record.recipe
    at = {formatting.finite(alarm.get("rollout")) for alarm in alarms}
    fired = Level(
        sorted(n for n in at if n is not None), "the watch fired", width=1.2, dashes=(1, 1.5), of="x"
    )
    asides = {
        key: _beside(entry, drawable(train, key).values, recipe, fired)
        for entry in LIMITED
        for key in entry.keys
    }
    rewards = _rewards_plot(train, _window(recipe), fired)
    limited = curve_plots(LIMITED, "watch", train, x=ROLLOUTS, asides=asides)
    return [*([rewards] if rewards else []), *limited]


def _rewards_plot(train: Sequence[Row], window: int, fired: Level) -> Plot | None:
    """All rewards in one unit: how far each is from its mean in the first rollouts, in standard deviations of
    the answers there."""
    keys = {"training reward": (REWARD, REWARD_DEVIATION)}
    for key in (train or [{}])[-1]:
        if key.startswith(WATCHED):
            name = key.removeprefix(WATCHED)
            keys[f"watch reward {name}"] = (key, DEVIATION + name)
    found = {name: drawable(train, key) for name, (key, _) in keys.items() if drawable(train, key).values}
    if len(found) < 2 or "training reward" not in found:
        return None
    shown = {
        name: in_deviations(values, drawable(train, keys[name][1]), window) for name, values in found.items()
    }
    lines = [line(values, label=name, **look(place)) for place, (name, values) in enumerate(shown.items())]
    title = "Training reward against watch reward"
    summary = sentence(
        *(f"{name} {trend(values, formatting.loss, x=ROLLOUTS)}" for name, values in found.items())
    )
    note = (
        f"Both start at 0: the mean of the first {window} rollouts is taken off, and the rest is divided by "
        "the standard deviation of the answers there."
    )
    y = "standard deviations from the start"
    return Plot(title, summary, "watch-rewards", [*lines, fired, Level((0,))], ROLLOUTS, y, note, HERO)


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


def histogram(name: str, title: str, entry: Row) -> Plot | None:
    """How the first answers score under one reward; ``entry``: of ``reward_check`` in run.json."""
    edges, counts = numbers(entry.get("edges")), numbers(entry.get("counts"))
    if len(edges) < 2 or len(counts) != len(edges) - 1 or not sum(counts):
        return None
    summary = sentence(
        f"{formatting.count(entry.get('answers'))} answers score from {formatting.loss(entry.get('min'))} to "
        f"{formatting.loss(entry.get('max'))}, {formatting.loss(entry.get('mean'))} on average"
    )
    x = XAxis("score", "score")
    return Plot(title, summary, name, [Histogram(edges, counts)], x, "answers", scale="zero")


def _beside(entry: Curves, values: Sequence[float], recipe: Row, fired: Level) -> tuple[list[Mark], str]:
    """What the mean of a window may reach, by the recipe and the first window of ``values``."""
    first = values[: _window(recipe)] or [0.0]
    start = sum(first) / len(first)
    most, rise, ratio = (
        formatting.finite(recipe.get(f"watch_max_{name}"))
        for name in ("kl", "repetition_rise", "length_ratio")
    )
    limits: dict[str, list[float]] = {
        "kl": [] if most is None else [most],
        "repetition": [] if rise is None else [start + rise],
        "response_length": [start / ratio, start * ratio] if ratio else [],
    }
    limit = limits[next(iter(entry.keys))]
    words = "limit for the mean of a window is" if len(limit) == 1 else "limits for it are"
    # A limit that is far away would flatten the curve; it is named below instead.
    far = 1.0 if entry.form is formatting.share else 3 * max(values, default=0.0)
    shown = [value for value in limit if value <= far]
    marks: list[Mark] = [Level(shown, "limit", SECOND, 1.2, (4, 2)), fired]
    return marks, f"the {words} {' and '.join(map(entry.form, limit))}" if limit else ""


def _window(recipe: Row) -> int:
    return int(formatting.finite(recipe.get("watch_window")) or 1)
