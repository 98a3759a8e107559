"""``metrics.jsonl``: one JSON object a logged step, appended while training runs and read by the report.

A run can be killed in the middle of a line and resumed from an earlier step. Appending starts a fresh line
after a torn one, reading skips what is not a JSON object and counts it, and lines that a resumed run wrote
again replace the older ones. What is logged and when is up to the training loop.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

from hf_align.runs.formatting import finite, number
from hf_align.runs.record import encode_json

METRICS_FILE = "metrics.jsonl"
_WHEN = ("step", "epoch", "time_seconds")


class MetricsLog(NamedTuple):
    """The readable lines of a metrics file, in order, and how many could not be read."""

    rows: list[dict[str, Any]]
    unreadable_lines: int


class Series(NamedTuple):
    """One quantity over the steps. ``steps`` and ``values`` are equally long and finite; ``bad_steps`` are
    the steps where the logged value was NaN or infinite."""

    steps: list[float]
    values: list[float]
    bad_steps: list[float]


def append_metrics(path: str | os.PathLike[str], row: Mapping[str, Any]) -> None:
    """Append ``row`` as one line. NaN and infinities are kept as strings (see ``record.json_ready``)."""
    line = encode_json(row) + b"\n"
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    with open(target, "ab+") as stream:
        if stream.seek(0, os.SEEK_END):
            stream.seek(-1, os.SEEK_END)
            if stream.read(1) != b"\n":
                line = b"\n" + line
        stream.write(line)


def read_metrics(path: str | os.PathLike[str]) -> MetricsLog:
    """The rows of a metrics file. A missing file has none; a torn or foreign line is counted, not fatal."""
    try:
        content = Path(path).read_bytes()
    except FileNotFoundError:
        return MetricsLog([], 0)
    rows: list[dict[str, Any]] = []
    unreadable = 0
    for line in content.split(b"\n"):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError:  # broken JSON or broken UTF-8
            row = None
        if isinstance(row, dict):
            rows.append(row)
        else:
            unreadable += 1
    return MetricsLog(rows, unreadable)


def forget_after(path: str | os.PathLike[str], step: float) -> None:
    """Take out the lines of later steps, which a run that went back to ``step`` is going to write again."""
    file = Path(path)
    if not file.is_file():
        return
    part = file.with_name(f".{file.name}.part")
    with part.open("wb") as stream:
        for line in file.read_bytes().splitlines(keepends=True):
            if _is_until(line, step):
                stream.write(line)
        stream.flush()
        os.fsync(stream.fileno())
    part.replace(file)


def _is_until(line: bytes, step: float) -> bool:
    try:
        row = json.loads(line)
    except ValueError:
        return False  # torn by a kill, as the last line may be
    at = finite(row.get("step")) if isinstance(row, dict) else None
    return at is None or at <= step


def training_rows(rows: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The lines of training steps, by step; steps that a resumed run did again appear once, as done last."""
    return _latest(row for row in rows if "loss" in row or "learning_rate" in row)


def evaluation_rows(rows: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The lines of evaluations, by step; an evaluation that was repeated at a step appears once."""
    return _latest(row for row in rows if "eval_loss" in row)


def rows_with(rows: Iterable[Mapping[str, Any]], key: str) -> list[Mapping[str, Any]]:
    """The lines that hold ``key``, by step; what a resumed run logged again appears once, as done last."""
    return _latest(row for row in rows if key in row)


def logged_keys(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Every key that holds a number somewhere, but for those that say when, in the order of appearance."""
    found: dict[str, None] = {}
    for row in rows:
        for key, value in row.items():
            if key not in _WHEN and number(value) is not None:
                found.setdefault(key)
    return list(found)


def elapsed_seconds(rows: Iterable[Mapping[str, Any]]) -> dict[float, float]:
    """Seconds of computing by step. A resumed run's clock starts anew and is added to what came before."""
    found: dict[float, float] = {}
    offset = last = 0.0
    for row in rows:
        step, seconds = finite(row.get("step")), finite(row.get("time_seconds"))
        if step is None or seconds is None:
            continue
        if seconds < last:
            # Steps that are done again count once: what was lost with them is left out.
            found = {at: time for at, time in found.items() if at < step}
            offset = max(found.values(), default=0.0)
        last = seconds
        found[step] = offset + seconds
    return found


def seen_so_far(rows: Iterable[Mapping[str, Any]], key: str) -> dict[float, float]:
    """The running total of ``key`` by step, for a quantity that is logged per interval."""
    steps, values, _ = series(rows_with(rows, key), key)
    return dict(zip(steps, accumulate(values), strict=True))


def _latest(rows: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    kept: list[Mapping[str, Any]] = []
    for row in rows:
        step = finite(row.get("step"))
        if step is None:
            continue
        # A step at or before the last one means that the run went back to a checkpoint.
        while kept and float(kept[-1]["step"]) >= step:
            kept.pop()
        kept.append(row)
    return kept


LARGEST_STEP = 2**53
"""Beyond it floats skip whole numbers, and drawing libraries fail on much larger ones."""


def series(rows: Iterable[Mapping[str, Any]], key: str) -> Series:
    """``key`` over the steps of ``rows``; rows without a number there, or with one that no run reaches as
    their step, are left out."""
    result = Series([], [], [])
    for row in rows:
        step, value = finite(row.get("step")), number(row.get(key))
        if step is None or value is None or abs(step) > LARGEST_STEP:
            continue
        if finite(value) is None:
            result.bad_steps.append(step)
        else:
            result.steps.append(step)
            result.values.append(value)
    return result


def smoothed(values: Sequence[float]) -> list[float]:
    """A centred mean over about a fifteenth of the points, so that the curve does not lag behind its points.

    Towards the ends the window shrinks on both sides, down to the first and the last point themselves.
    """
    half = max(1, len(values) // 30)
    sums = list(accumulate(values, initial=0.0))
    result = []
    for place in range(len(values)):
        reach = min(half, place, len(values) - 1 - place)
        first, last = place - reach, place + reach + 1
        result.append((sums[last] - sums[first]) / (last - first))
    return result
