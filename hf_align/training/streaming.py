"""One rank's share of a stream of rows, epoch after epoch, for a DataLoader."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Protocol

from torch.utils.data import IterableDataset

from hf_align.types import TokenizedRow


class Stream(Protocol):
    """A source that can be read again in another order."""

    def set_epoch(self, epoch: int) -> None: ...

    def __iter__(self) -> Iterator[TokenizedRow]: ...


class RankStream(IterableDataset[TokenizedRow]):
    """Every ``world_size``-th row of a stream, without end.

    Every rank reads the whole stream and takes its own rows, so that no row is seen twice in an epoch.
    """

    def __init__(self, stream: Stream, *, rank: int = 0, world_size: int = 1) -> None:
        self.stream = stream
        self.rank = rank
        self.world_size = world_size

    def __iter__(self) -> Iterator[TokenizedRow]:
        return itertools.islice(self._all_epochs(), self.rank, None, self.world_size)

    def _all_epochs(self) -> Iterator[TokenizedRow]:
        for epoch in itertools.count():
            self.stream.set_epoch(epoch)
            yield from self.stream
