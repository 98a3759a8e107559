"""Which rows of several sources are used, and in which order: an array of row numbers.

The rows themselves stay where ``flat_rows`` has them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import Any

import numpy as np
import numpy.typing as npt

from hf_align.data.store.flat_rows import DIGEST_BYTES, FlatRows
from hf_align.types import AnyExample, LazySequence, Row

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

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return RowSelection(self.sources, self.indices[index])
        source, row = self.locate(index)
        return source[row]

    @property
    def examples(self) -> Sequence[AnyExample]:
        """What the rows were made of, in the same order; read when they are asked for."""
        return _Examples(self)

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

    def locate(self, index: int) -> tuple[FlatRows, int]:
        """(the source of row ``index``, its number there)."""
        found = int(self.indices[index])
        number = int(np.searchsorted(self._ends, found, side="right"))
        return self.sources[number], found - (int(self._ends[number - 1]) if number else 0)


class _Examples(LazySequence[AnyExample]):
    def __init__(self, rows: RowSelection) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def item(self, index: int) -> AnyExample:
        source, row = self._rows.locate(index)
        return source.example(row)
