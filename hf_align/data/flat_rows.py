"""Tokenised rows in flat arrays, in memory or mapped from files: a million rows without a million objects.

Rows are written chunk by chunk and read back one at a time. Which rows are used, and in which order, is an
array of row numbers (``RowSelection``). Keeping the files for another run is the business of ``cache``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, BinaryIO, Generic, TypeVar, overload

import numpy as np
import numpy.typing as npt

from hf_align.types import Example, Message, TokenizedRow

T = TypeVar("T")
Arrays = dict[str, npt.NDArray[Any]]

ARRAYS: dict[str, str] = {
    "tokens": "<i4",
    "token_ends": "<i8",
    "places": "|u1",
    "place_ends": "<i8",
    "examples": "|u1",
    "example_ends": "<i8",
    "digests": "<u8",
}
"""The arrays of N rows and their element types. ``tokens``: all rows one after the other; a target is stored
as its bitwise complement (below zero), so that ids and targets are one array. ``places`` and ``examples``:
UTF-8 text, one piece a row; examples are empty where they were not kept. ``*_ends`` (N,): where the piece of
each row ends. ``digests`` (N, 4): two words over the ids, two over ids and targets."""

_DIGEST_BYTES = 16
_ROWS_OF_A_BLOCK = 1 << 16


@dataclass(frozen=True)
class Piece:
    """The kept rows of one chunk: ``arrays`` as ``ARRAYS``, ends counted from the start of the piece."""

    arrays: Arrays

    def __len__(self) -> int:
        return len(self.arrays["token_ends"])


def flatten(rows: Sequence[tuple[TokenizedRow, Example]], prefix: str, *, keep_examples: bool) -> Piece:
    """Rows with their examples in flat form. ``prefix``: what every place begins with; it is not stored."""
    stored = [np.where(row.target_mask, ~row.input_ids, row.input_ids) for row, _ in rows]
    places = [_encode(row.source.removeprefix(prefix)) for row, _ in rows]
    examples = [_encode(_example_text(example)) if keep_examples else b"" for _, example in rows]
    digests = b"".join(
        _digest(row.input_ids) + _digest(tokens) for (row, _), tokens in zip(rows, stored, strict=True)
    )
    return Piece(
        {
            "tokens": np.concatenate(stored) if stored else np.zeros(0, np.int32),
            "token_ends": _ends(stored),
            "places": np.frombuffer(b"".join(places), np.uint8),
            "place_ends": _ends(places),
            "examples": np.frombuffer(b"".join(examples), np.uint8),
            "example_ends": _ends(examples),
            "digests": np.frombuffer(digests, "<u8"),
        }
    )


class FlatRows(Sequence[TokenizedRow]):
    """The kept rows of one source, in its order, read from arrays as ``ARRAYS`` describes them.

    Each access builds the row anew; its arrays are the caller's own.
    """

    def __init__(self, arrays: Mapping[str, npt.NDArray[Any]], prefix: str) -> None:
        self._arrays = arrays
        self._prefix = prefix

    def __len__(self) -> int:
        return len(self._arrays["token_ends"])

    @overload
    def __getitem__(self, index: int) -> TokenizedRow: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[TokenizedRow]: ...
    def __getitem__(self, index: int | slice) -> TokenizedRow | Sequence[TokenizedRow]:
        if isinstance(index, slice):
            return [self[i] for i in range(len(self))[index]]
        index = range(len(self))[index]
        tokens = self._piece("token", index)
        mask = tokens < 0
        return TokenizedRow(np.where(mask, ~tokens, tokens), mask, self.place(index))

    def place(self, index: int) -> str:
        """Where row ``index`` stands in its source."""
        return self._prefix + _decode(self._piece("place", index))

    def example(self, index: int) -> Example:
        """The example behind row ``index``. Raises LookupError where examples were not kept."""
        text = _decode(self._piece("example", index))
        if not text:
            raise LookupError("the examples of these rows were not kept")
        kind, value = json.loads(text)
        if kind == "messages":
            messages = tuple(Message(role, content) for role, content in value)
            return Example(self.place(index), messages=messages)
        if kind == "text":
            return Example(self.place(index), text=value)
        return Example(self.place(index), prompt=value[0], completion=value[1])

    @property
    def digests(self) -> npt.NDArray[np.uint64]:
        """(N, 4): 128 bits over the ids of each row, then 128 bits over its ids and targets."""
        return self._arrays["digests"].reshape(-1, 4)

    def _piece(self, name: str, index: int) -> npt.NDArray[Any]:
        ends = self._arrays[f"{name}_ends"]
        piece: npt.NDArray[Any] = self._arrays[f"{name}s"][int(ends[index - 1]) if index else 0 : ends[index]]
        return piece


class RowSelection(Sequence[TokenizedRow]):
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
    def __getitem__(self, index: int) -> TokenizedRow: ...
    @overload
    def __getitem__(self, index: slice) -> RowSelection: ...
    def __getitem__(self, index: int | slice) -> TokenizedRow | RowSelection:
        if isinstance(index, slice):
            return RowSelection(self.sources, self.indices[index])
        source, row = self._locate(index)
        return source[row]

    @property
    def examples(self) -> Sequence[Example]:
        """The examples behind the rows, in the same order; each is read when it is asked for."""
        return _Lazy(len(self), self._example)

    @property
    def fingerprint(self) -> str:
        """Changes when a row, its targets or its place in the order does."""
        digest = blake2b(digest_size=_DIGEST_BYTES)
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

    def _example(self, index: int) -> Example:
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


def in_memory(pieces: Iterable[Piece], prefix: str) -> FlatRows:
    """The rows of all pieces in memory."""
    waiting: dict[str, list[npt.NDArray[Any]]] = {name: [np.zeros(0, kind)] for name, kind in ARRAYS.items()}
    for name, array in _continued(pieces):
        waiting[name].append(array)
    return FlatRows({name: np.concatenate(parts) for name, parts in waiting.items()}, prefix)


def write_files(pieces: Iterable[Piece], folder: Path) -> None:
    """Write the rows of all pieces to ``folder``, a file for each array, holding one piece at a time."""
    files: dict[str, BinaryIO] = {}
    try:
        for name in ARRAYS:
            files[name] = (folder / f"{name}.bin").open("wb")
        for name, array in _continued(pieces):
            files[name].write(array.tobytes())
    finally:
        for file in files.values():
            file.close()


def map_files(folder: Path, prefix: str) -> FlatRows:
    """The rows in ``folder``, mapped: only the parts that are looked at take memory."""
    arrays: Arrays = {}
    for name, kind in ARRAYS.items():
        path = folder / f"{name}.bin"
        # A mapping cannot be empty.
        arrays[name] = (
            np.asarray(np.memmap(path, kind, "r")) if path.stat().st_size else np.zeros(0, np.dtype(kind))
        )
    return FlatRows(arrays, prefix)


def _continued(pieces: Iterable[Piece]) -> Iterable[tuple[str, npt.NDArray[Any]]]:
    """(name, array) of every piece in its stored type, with ends that go on counting."""
    before = dict.fromkeys(ARRAYS, 0)
    for piece in pieces:
        for name, kind in ARRAYS.items():
            array = piece.arrays[name].astype(kind, copy=False)
            if name.endswith("_ends") and len(array):
                array = array + before[name]
                before[name] = int(array[-1])
            yield name, array


def _ends(parts: Sequence[Any]) -> npt.NDArray[np.int64]:
    return np.cumsum([len(part) for part in parts], dtype=np.int64)


def _digest(array: npt.NDArray[np.int32]) -> bytes:
    return blake2b(array.astype("<i4", copy=False).tobytes(), digest_size=_DIGEST_BYTES).digest()


def _example_text(example: Example) -> str:
    value: Any
    if example.messages is not None:
        kind, value = "messages", [(message.role, message.content) for message in example.messages]
    elif example.text is not None:
        kind, value = "text", example.text
    else:
        kind, value = "prompt", (example.prompt, example.completion)
    return json.dumps((kind, value), ensure_ascii=False)


def _encode(text: str) -> bytes:
    # Names of files that are not UTF-8 hold lone surrogates.
    return text.encode("utf-8", "surrogatepass")


def _decode(array: npt.NDArray[np.uint8]) -> str:
    return array.tobytes().decode("utf-8", "surrogatepass")
