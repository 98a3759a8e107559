"""When a reward is being hacked: rules over the metrics of a run's rollouts, and words for what they find.

A policy that is trained on a reward finds what the reward pays for, which after a while is no longer what it
stands for (Gao et al. 2022, arXiv 2210.10760). Shown by a second reward that falls while the first one
rises, or by answers far from the reference, far longer or shorter, or that repeat themselves. Everything
here is a function of the logged metrics; what is done about it is in ``actions``.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hf_align.rl.watch.recipe import WatchConfig

Row = Mapping[str, float]
"""What is known of one rollout; see :func:`watched_row`."""

REWARD, KL, LENGTH, REPETITION = "reward/total", "kl", "response_length", "repetition"
WATCHED, DEVIATION = "watch/", "watch_std/"
"""Before the name of a watch reward: its mean over the answers of a rollout, and its standard deviation."""

STANDARD_ERRORS = 3.0
"""A fall of the watch reward within so many standard errors of its difference is noise, whatever its size."""


@dataclass(frozen=True)
class Alarm:
    """One limit that was passed.

    ``metric``: which, by its name in the log. ``rollout``: at which the watch fired, and ``since``: the first
    rollout that is in doubt. ``then``: the last rollout of the window that was compared with, and ``before``
    and ``now``: the means of the two windows. ``change``: what was measured, in the unit of ``limit``.
    """

    figure: str
    rollout: int
    since: int
    then: int
    before: float
    now: float
    change: float
    limit: float

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def watched_row(rollout: int, answers: int, figures: Mapping[str, float]) -> dict[str, float]:
    """What the watch keeps of a rollout (from 1) with so many ``answers``, out of its logged metrics."""
    kept = {key: figures[key] for key in (REWARD, KL, LENGTH, REPETITION)}
    kept |= {key: value for key, value in figures.items() if key.startswith((WATCHED, DEVIATION))}
    return {"rollout": float(rollout), "answers": float(answers), **kept}


def alarms(rows: Sequence[Row], options: WatchConfig) -> list[Alarm]:
    """Every limit that was passed, when it was first passed for long enough; by rollout.

    ``rows``: one for each rollout, in order. A limit fires once, at the first rollout at which it has been
    passed in ``watch_patience`` windows in a row; the same rows give the same alarms.
    """
    found = []
    for known, judged in _judged(rows, options):
        held = 0
        for place, one in enumerate(judged):
            held = held + 1 if one.passed else 0
            if held == options.watch_patience:
                first = judged[place - held + 1]
                found.append(_alarm(known, one, _since(first, options), options))
                break
    return sorted(found, key=lambda alarm: alarm.rollout)


def last_good(rows: Sequence[Row], options: WatchConfig) -> int:
    """After how many rollouts the newest checkpoint was made that no later alarm can put in doubt.

    It only grows from rollout to rollout.
    """
    size = options.watch_window
    doubts = [last_rollout(rows) + 1]
    for _, judged in _judged(rows, options):
        if not judged:
            doubts.append(1)
        elif judged[-1].good is not None:
            doubts.append(judged[-1].good + 1)
        else:
            held = next((n for n, one in enumerate(reversed(judged)) if not one.passed), len(judged))
            # Where no window passes, the next one may.
            doubts.append(judged[-1].rollout - size + 2 - held)
    return good_checkpoint(min(doubts))


def last_rollout(rows: Sequence[Row]) -> int:
    """The number of the last rollout in ``rows``; 0 without any."""
    return int(rows[-1]["rollout"]) if rows else 0


def good_checkpoint(since: int) -> int:
    """After how many rollouts the last policy was made that wrote no answer from rollout ``since`` on.

    The policy after k rollouts writes the answers of rollout k + 1. That of the start, 0, is always good.
    """
    return max(0, since - 2)


@dataclass(frozen=True)
class _Judged:
    """One window against the one it is compared with: ``rollout`` and ``then`` are the last ones of the two.

    ``good``: where the last window ends that was as good as the best one; None for a limit that is not
    compared with the best.
    """

    rollout: int
    then: int
    change: float
    limit: float
    passed: bool
    figure: str
    good: int | None = None


def _judged(rows: Sequence[Row], options: WatchConfig) -> list[tuple[list[Row], list[_Judged]]]:
    """For each limit that is on: the rows that know its metric, and each of their windows."""
    size = options.watch_window
    found: list[tuple[list[Row], list[_Judged]]] = []
    names = dict.fromkeys(key for row in rows for key in row if key.startswith(WATCHED))
    if options.watch_max_drop is not None:
        for key in names:
            known = [row for row in rows if key in row]
            found.append((known, _drop(known, key, size, options.watch_max_drop)))
    simple: tuple[tuple[str, float | None, Callable[[float, float], float]], ...] = (
        (KL, options.watch_max_kl, lambda first, now: now),
        (LENGTH, options.watch_max_length_ratio, lambda first, now: _ratio(first, now)),
        (REPETITION, options.watch_max_repetition_rise, lambda first, now: now - first),
    )
    for key, limit, change in simple:
        if limit is not None:
            found.append((list(rows), _against_first(rows, key, size, limit, change)))
    return found


def _drop(rows: Sequence[Row], key: str, size: int, most: float) -> list[_Judged]:
    """Each window of a watch reward against the best one so far.

    Passed where it has fallen by more than ``most`` standard deviations of the answers in the first window,
    by more than chance, and the training reward is higher than it was in the best window.
    """
    deviations = _values(rows, key.replace(WATCHED, DEVIATION, 1))
    watched, trained = (window_means(_values(rows, name), size) for name in (key, REWARD))
    # Variance of the mean of a window: the mean variance of its rollouts' means, over their number.
    noise = window_means(deviations**2 / _values(rows, "answers"), size) / size
    if not len(watched):
        return []
    unit = float(deviations[:size].mean())
    found, best, good = [], 0, 0
    for place, value in enumerate(watched):
        if value > watched[best]:
            best = place
        fall = float(watched[best] - value)
        error = math.sqrt(float(noise[best] + noise[place]))
        if fall <= error:
            good = place
        # The last term: rounding, where all answers score the same.
        allowed = max(most * unit, STANDARD_ERRORS * error, 1e-9 * abs(float(watched[best])))
        found.append(
            _Judged(
                rollout=int(rows[place + size - 1]["rollout"]),
                then=int(rows[best + size - 1]["rollout"]),
                change=fall,
                limit=allowed,
                passed=fall > allowed and bool(trained[place] > trained[best]),
                figure=key,
                good=int(rows[good + size - 1]["rollout"]),
            )
        )
    return found


def _against_first(
    rows: Sequence[Row], key: str, size: int, limit: float, change: Callable[[float, float], float]
) -> list[_Judged]:
    means = window_means(_values(rows, key), size)
    then = int(rows[size - 1]["rollout"]) if len(means) else 0
    found = []
    for place, value in enumerate(means):
        measured = change(float(means[0]), float(value))
        rollout = int(rows[place + size - 1]["rollout"])
        found.append(_Judged(rollout, then, measured, limit, measured > limit, key))
    return found


def window_means(values: npt.NDArray[np.float64], size: int) -> npt.NDArray[np.float64]:
    """(n - size + 1,) the mean of every ``size`` values in a row; none where there are fewer."""
    if len(values) < size:
        return np.zeros(0)
    means: npt.NDArray[np.float64] = np.lib.stride_tricks.sliding_window_view(values, size).mean(axis=1)
    return means


def _ratio(first: float, now: float) -> float:
    """How many times as large the larger of two lengths is; answers have at least one token."""
    return max(first, now) / max(min(first, now), 1e-9)


def _values(rows: Sequence[Row], key: str) -> npt.NDArray[np.float64]:
    return np.array([row[key] for row in rows], dtype=np.float64)


def _since(first: _Judged, options: WatchConfig) -> int:
    """The first rollout in doubt, from the first window that passed a limit: after the last window that was
    good, or where that window itself begins."""
    return max(1, first.rollout - options.watch_window + 1) if first.good is None else first.good + 1


def _alarm(rows: Sequence[Row], found: _Judged, since: int, options: WatchConfig) -> Alarm:
    return Alarm(
        figure=found.figure,
        rollout=found.rollout,
        since=since,
        then=found.then,
        before=window_at(rows, found.figure, found.then, options.watch_window),
        now=window_at(rows, found.figure, found.rollout, options.watch_window),
        change=found.change,
        limit=found.limit,
    )


def window_at(rows: Sequence[Row], key: str, rollout: int, size: int) -> float:
    """The mean of ``key`` over the ``size`` rollouts up to ``rollout``, those that have it."""
    values = [row[key] for row in rows if rollout - size < row["rollout"] <= rollout and key in row]
    return float(np.mean(values)) if values else math.nan


_NAMES = {
    KL: "the divergence from the reference, nats per answer,",
    LENGTH: "the mean length of an answer, in tokens,",
    REPETITION: "the share of repeated 4-grams in an answer",
}


def describe(alarm: Alarm, rows: Sequence[Row], options: WatchConfig) -> str:
    """What was found, in a sentence or two, with the numbers and the key of the limit."""
    window = options.watch_window

    def trend(key: str) -> str:
        before, now = (window_at(rows, key, at, window) for at in (alarm.then, alarm.rollout))
        return f"{before:.4g} -> {now:.4g}"

    spans = f"rollouts {_span(alarm.then, window)} against {_span(alarm.rollout, window)}"
    rest = {KL: "KL", LENGTH: "length", REPETITION: "repeated 4-grams"}
    others = ", ".join(f"{name} {trend(key)}" for key, name in rest.items() if key != alarm.figure)
    if alarm.figure.startswith(WATCHED):
        return (
            f"the watch reward '{alarm.figure.removeprefix(WATCHED)}' has fallen from {alarm.before:.4g} to "
            f"{alarm.now:.4g} since its best; {alarm.limit:.3g} is allowed (watch_max_drop: "
            f"{options.watch_max_drop:g}). Meanwhile the training reward rose: {trend(REWARD)} ({spans}). "
            f"{others}"
        )
    key = {KL: "watch_max_kl", LENGTH: "watch_max_length_ratio", REPETITION: "watch_max_repetition_rise"}
    name = key[alarm.figure]
    limit = f"{name}: {getattr(options, name):g}"
    if alarm.figure == LENGTH:
        limit = f"a factor of {alarm.change:.3g}; {limit}"
    return (
        f"{_NAMES[alarm.figure]} went from {alarm.before:.4g} to {alarm.now:.4g} ({limit}; "
        f"{spans}). Training reward {trend(REWARD)}, {others}"
    )


def _span(last: int, size: int) -> str:
    first = max(1, last - size + 1)
    return f"{first} to {last}" if first < last else str(last)
