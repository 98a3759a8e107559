"""What a step over the whole corpus is: a scan of every shard, one decision, and a verdict on each
document."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from hf_align.corpus.document import Document, Verdict

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Decision:
    """What follows from all scans. ``shards``: arrays for each shard, in order; ``found``: for the report,
    plain values that JSON holds."""

    shards: Sequence[Arrays]
    found: dict[str, Any] = field(default_factory=dict)


class WholeStep(Protocol):
    """A step over the whole corpus. The three parts run in different processes: a step is a frozen dataclass
    of its options and keeps nothing between them."""

    def prepare(self, folder: Path) -> dict[str, Any]:
        """What has to be there before the first scan, written to ``folder``; what it found, for the
        report."""

    def scan(self, documents: Sequence[Document], folder: Path) -> dict[str, np.ndarray]:
        """What the decision needs to know of a shard. ``folder``: that of ``prepare``."""

    def decide(self, scans: Sequence[Arrays], read: Read) -> Decision:
        """From the scans of all shards, in order. ``read`` gives the documents of a shard again."""

    def apply(self, documents: Sequence[Document], decided: Arrays) -> Iterator[Verdict]:
        """A verdict for each document of a shard, in order."""


class NothingToPrepare:
    """For steps whose scan needs the documents alone."""

    def prepare(self, folder: Path) -> dict[str, Any]:
        return {}


class Read(Protocol):
    """Reads the documents of shard ``number``."""

    def __call__(self, number: int) -> Sequence[Document]: ...


def offsets(counts: Sequence[int]) -> np.ndarray:
    """The number of the first document of each shard, and the number of all: (S + 1,)."""
    return np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]).astype(np.int64)


def split(values: np.ndarray, counts: Sequence[int]) -> list[np.ndarray]:
    """``values`` of all documents, cut into shards of ``counts`` documents."""
    return np.split(values, offsets(counts)[1:-1])
