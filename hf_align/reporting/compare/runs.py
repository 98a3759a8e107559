"""The runs of a comparison: their files read, and short names that tell them apart."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hf_align.errors import UserError
from hf_align.runs.metrics import METRICS_FILE, MetricsLog, read_metrics
from hf_align.runs.record import read_run, redact
from hf_align.runs.schema import Record


@dataclass(frozen=True)
class ComparedRun:
    """One run of a comparison. ``mark``: a letter for drawings and tables; ``name``: unlike all others'."""

    mark: str
    name: str
    folder: str
    record: Record
    log: MetricsLog

    @property
    def recipe(self) -> dict[str, Any]:
        """The resolved recipe without secrets; empty where the record has none."""
        recipe: dict[str, Any] = redact(self.record.recipe)
        return recipe


def read_runs(folders: Sequence[str | os.PathLike[str]]) -> list[ComparedRun]:
    """The runs in these folders, in this order.

    Raises UserError for a folder without a readable ``run.json`` and for one that is given twice.
    """
    paths = [Path(folder) for folder in folders]
    records = [read_run(path) for path in paths]
    places: dict[Path, Path] = {}
    for path in paths:
        first = places.setdefault(path.resolve(), path)
        if first is not path:
            same = f" ('{first}')" if str(first) != str(path) else ""
            raise UserError(f"{path}: this run is given twice{same}.")
    return [
        ComparedRun(_mark(number), name, str(path), record, read_metrics(path / METRICS_FILE))
        for number, (path, name, record) in enumerate(
            zip(paths, _names(paths, records), records, strict=True)
        )
    ]


def _mark(number: int) -> str:
    """A, B, …, Z, A2, B2, …"""
    turn, place = divmod(number, 26)
    return chr(ord("A") + place) + (str(turn + 1) if turn else "")


def _names(paths: Sequence[Path], records: Sequence[Record]) -> list[str]:
    """The name in the recipe, else the folder's; where two are alike, with as much of the path as needed."""
    resolved = [path.resolve() for path in paths]
    given = [record.recipe.get("run_name") for record in records]
    names = [str(name) if name else path.name for name, path in zip(given, resolved, strict=True)]
    result = list(names)
    for depth in range(1, max(len(path.parts) for path in resolved) + 1):
        repeated = {name for name in result if result.count(name) > 1}
        if not repeated:
            break
        for place, path in enumerate(resolved):
            if result[place] in repeated:
                tail = "/".join(path.parts[-depth:])
                result[place] = f"{names[place]} ({tail})" if given[place] else tail
    return result
