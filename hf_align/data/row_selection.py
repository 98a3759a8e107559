"""Which rows of several sources are used, and in which order: an array of row numbers.

The rows themselves stay where ``flat_rows`` has them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b
from typing import Generic, TypeVar, overload

import numpy as np
import numpy.typing as npt

from hf_align.data.flat_rows import DIGEST_BYTES, FlatRows
from hf_align.data.lengths import Row
from hf_align.types import Comparison, Example

T = TypeVar("T")

_ROWS_OF_A_BLOCK = 1 << 16


class RowSelection(Sequence[Row]):
    """Rows of several sources in a given order, possibly some of them repeatedly.

    ``indices`` (M,) number the rows of all ``sources`` one source after the other.
    """

    def __init__(self, sources: Sequence[FlatRows], indices: npt.NDArray[np.int64]) -> None:
        self.sources = tuple(sources)
        self.indices = indices
        self._ends = np.cumsum([len(source) for source in sources], dtype=np.int64)

    def __len__(self) -> int:
        return len(self.indices)

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> RowSelection: ...
    def __getitem__(self, index: int | slice) -> Row | RowSelection:
        if isinstance(index, slice):
            return RowSelection(self.sources, self.indices[index])
        source, row = self._locate(index)
        return source[row]

    @property
    def examples(self) -> Sequence[Example | Comparison]:
        """The examples or comparisons behind the rows, in the same order; read when they are asked for."""
        return _Lazy(len(self), self._example)

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """(M,) tokens of each row."""
        lengths = [source.lengths for source in self.sources]
        every: npt.NDArray[np.int64] = np.concatenate([np.zeros(0, np.int64), *lengths])[self.indices]
        return every

    def source_numbers(self) -> npt.NDArray[np.int64]:
        """(M,) the number of the source of each row."""
        return np.searchsorted(self._ends, self.indices, side="right")

    @property
    def fingerprint(self) -> str:
        """Changes when a row, its targets, its scores or its place in the order does."""
        digest = blake2b(digest_size=DIGEST_BYTES)
        for block in self.digest_blocks():
            digest.update(block[:, 2:].tobytes())
        return digest.hexdigest()

    def digest_blocks(self) -> Iterator[npt.NDArray[np.uint64]]:
        """The digests of all rows in order (see ``FlatRows.digests``), some at a time."""
        for start in range(0, len(self), _ROWS_OF_A_BLOCK):
            indices = self.indices[start : start + _ROWS_OF_A_BLOCK]
            sources = np.searchsorted(self._ends, indices, side="right")
            block = np.empty((len(indices), 4), np.uint64)
            for number in np.unique(sources).tolist():
                chosen = sources == number
                first = int(self._ends[number - 1]) if number else 0
                block[chosen] = self.sources[number].digests[indices[chosen] - first]
            yield block

    def _example(self, index: int) -> Example | Comparison:
        source, row = self._locate(index)
        return source.example(row)

    def _locate(self, index: int) -> tuple[FlatRows, int]:
        found = int(self.indices[index])
        number = int(np.searchsorted(self._ends, found, side="right"))
        return self.sources[number], found - (int(self._ends[number - 1]) if number else 0)


class _Lazy(Sequence[T], Generic[T]):
    """A sequence whose items are made when they are asked for."""

    def __init__(self, length: int, item: Callable[[int], T]) -> None:
        self._numbers = range(length)
        self._item = item

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> list[T]: ...
    def __getitem__(self, index: int | slice) -> T | list[T]:
        if isinstance(index, slice):
            return [self._item(number) for number in self._numbers[index]]
        return self._item(self._numbers[index])
