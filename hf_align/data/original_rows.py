"""The rows of a data set as they stand in it, with all their columns, found by their places.

Canonical rows keep only what a stage learns from; a reward of the user's own may need the rest, such as the
number that an answer has to name.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from hf_align.data.sources import read_rows

if TYPE_CHECKING:
    from hf_align.config import DatasetConfig


def original_rows(datasets: Sequence[DatasetConfig], places: Collection[str]) -> dict[str, dict[str, Any]]:
    """Column to value of each row, by its place (``Example.source``); the data sets are read once more.

    Places that are in none of the data sets are left out. Errors: ``UserError`` where one cannot be read.
    """
    wanted = set(places)
    found: dict[str, dict[str, Any]] = {}
    for dataset in datasets:
        for row in read_rows(dataset):
            if len(found) == len(wanted):
                return found
            if row.place in wanted and row.values is not None:
                found.setdefault(row.place, row.values)
    return found
