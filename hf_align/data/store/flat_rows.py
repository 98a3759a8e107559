"""Tokenised rows in flat arrays, in memory or mapped from files: a million rows without a million objects.

Rows are written chunk by chunk and read back one at a time. Which rows are used, and in which order, is the
business of ``row_selection``, keeping the files for another run that of ``cache``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from hf_align.types import AnyExample, LabelledRow, LazySequence, Row, TokenizedRow
from hf_align.types.examples import from_stored

Arrays = dict[str, npt.NDArray[Any]]

ARRAYS: dict[str, str] = {
    "tokens": "<i4",
    "token_ends": "<i8",
    "layouts": "<i4",
    "scores": "<f8",
    "layout_ends": "<i8",
    "places": "|u1",
    "place_ends": "<i8",
    "examples": "|u1",
    "example_ends": "<i8",
    "digests": "<u8",
}
"""The arrays of N rows and their element types. ``tokens``: all rows one after the other; a target is stored
as its bitwise complement (below zero), so that ids and targets are one array. ``places`` and ``examples``:
UTF-8 text, one piece a row; examples are empty where they were not kept. ``*_ends`` (N,): where the piece of
each row ends.

``layouts`` and ``scores``: what ``Row.layout`` gives, piece by piece. For a row that compares K answers the
tokens of the prefix, then of each branch, in which order they stand in ``tokens``; the margin (NaN where
there is none), then the K scores. Nothing for a row of one sequence, or a 0 and its weight.

``digests`` (N, 4): two words over ids and layout, two over ids, targets, layout and scores."""

DIGEST_BYTES = 16


def flatten(rows: Sequence[tuple[Row, AnyExample]], prefix: str, *, keep_examples: bool) -> Arrays:
    """Rows with their examples as ``ARRAYS``, with ends counted from their start.

    ``prefix``: what every place begins with; it is not stored.
    """
    ids, stored, layouts, scores = zip(*(_parts(row) for row, _ in rows), strict=True) if rows else ((),) * 4
    places = [_encode(row.source.removeprefix(prefix)) for row, _ in rows]
    examples = [
        _encode(json.dumps(example.stored(), ensure_ascii=False)) if keep_examples else b""
        for _, example in rows
    ]
    digests = b"".join(
        # Zeros say nothing about the tokens: a row with a weight has those of the same row without one.
        _digest(tokens, layout if layout.any() else layout[:0]) + _digest(targets, layout, score)
        for tokens, targets, layout, score in zip(ids, stored, layouts, scores, strict=True)
    )
    return {
        "tokens": _joined(stored, np.int32),
        "token_ends": _ends(stored),
        "layouts": _joined(layouts, np.int32),
        "scores": _joined(scores, np.float64),
        "layout_ends": _ends(layouts),
        "places": np.frombuffer(b"".join(places), np.uint8),
        "place_ends": _ends(places),
        "examples": np.frombuffer(b"".join(examples), np.uint8),
        "example_ends": _ends(examples),
        "digests": np.frombuffer(digests, "<u8"),
    }


def _parts(row: Row) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
    """(ids, ids with targets marked, layout, scores) of a row, as ``ARRAYS`` describes them."""
    prefix, pieces = row.pieces()
    ids = np.concatenate([prefix, *(piece.input_ids for piece in pieces)])
    stored = [np.where(piece.target_mask, ~piece.input_ids, piece.input_ids) for piece in pieces]
    layout, scores = row.layout()
    return ids, np.concatenate([prefix, *stored]), np.array(layout, np.int32), np.array(scores, np.float64)


class FlatRows(LazySequence[Row]):
    """The kept rows of one source, in its order, read from arrays as ``ARRAYS`` describes them.

    Each access builds the row anew, one of the class ``kind``; its arrays are the caller's own.
    """

    def __init__(self, arrays: Mapping[str, npt.NDArray[Any]], prefix: str, kind: type[Row]) -> None:
        self._arrays = arrays
        self._prefix = prefix
        self._kind = kind

    def __len__(self) -> int:
        return len(self._arrays["token_ends"])

    def item(self, index: int) -> Row:
        tokens = self._piece("tokens", "token_ends", index)
        mask = tokens < 0
        layout, scores = (self._piece(name, "layout_ends", index).tolist() for name in ("layouts", "scores"))
        ids = np.where(mask, ~tokens, tokens)
        return self._kind.from_layout(ids, mask, self.place(index), (layout, scores))

    def place(self, index: int) -> str:
        """Where row ``index`` stands in its source."""
        return self._prefix + _decode(self._piece("places", "place_ends", index))

    def example(self, index: int) -> AnyExample:
        """What row ``index`` was made of. Raises LookupError where the examples were not kept."""
        text = _decode(self._piece("examples", "example_ends", index))
        if not text:
            raise LookupError("the examples of these rows were not kept")
        return from_stored(self.place(index), *json.loads(text))

    @property
    def labelled(self) -> bool:
        """Whether each row has a class, which its example alone says."""
        return issubclass(self._kind, LabelledRow)

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """(N,) tokens of each row."""
        return np.diff(self._arrays["token_ends"], prepend=0)

    @property
    def digests(self) -> npt.NDArray[np.uint64]:
        """(N, 4): 128 bits over the ids of each row, then 128 bits over all that it teaches."""
        return self._arrays["digests"].reshape(-1, 4)

    def _piece(self, name: str, ends_name: str, index: int) -> npt.NDArray[Any]:
        ends = self._arrays[ends_name]
        piece: npt.NDArray[Any] = self._arrays[name][int(ends[index - 1]) if index else 0 : ends[index]]
        return piece


def in_memory(pieces: Iterable[Arrays], prefix: str, kind: type[Row] = TokenizedRow) -> FlatRows:
    """The rows of all pieces, as ``flatten`` gives them, in memory."""
    waiting: dict[str, list[npt.NDArray[Any]]] = {name: [np.zeros(0, kind)] for name, kind in ARRAYS.items()}
    for name, array in _continued(pieces):
        waiting[name].append(array)
    return FlatRows({name: np.concatenate(parts) for name, parts in waiting.items()}, prefix, kind)


def write_files(pieces: Iterable[Arrays], folder: Path) -> None:
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


def map_files(folder: Path, prefix: str, kind: type[Row] = TokenizedRow) -> FlatRows:
    """The rows in ``folder``, mapped: only the parts that are looked at take memory."""
    arrays: Arrays = {}
    for name, dtype in ARRAYS.items():
        path = folder / f"{name}.bin"
        # A mapping cannot be empty.
        arrays[name] = (
            np.asarray(np.memmap(path, dtype, "r")) if path.stat().st_size else np.zeros(0, np.dtype(dtype))
        )
    return FlatRows(arrays, prefix, kind)


def _continued(pieces: Iterable[Arrays]) -> Iterable[tuple[str, npt.NDArray[Any]]]:
    """(name, array) of every piece in its stored type, with ends that go on counting."""
    before = dict.fromkeys(ARRAYS, 0)
    for piece in pieces:
        for name, kind in ARRAYS.items():
            array = piece[name].astype(kind, copy=False)
            if name.endswith("_ends") and len(array):
                array = array + before[name]
                before[name] = int(array[-1])
            yield name, array


def _ends(parts: Sequence[Any]) -> npt.NDArray[np.int64]:
    return np.cumsum([len(part) for part in parts], dtype=np.int64)


def _joined(parts: Sequence[npt.NDArray[Any]], kind: type[np.generic]) -> npt.NDArray[Any]:
    return np.concatenate(parts) if parts else np.zeros(0, kind)


def _digest(
    tokens: npt.NDArray[np.int32],
    layout: npt.NDArray[np.int32],
    scores: npt.NDArray[np.float64] | None = None,
) -> bytes:
    digest = blake2b(tokens.astype("<i4", copy=False).tobytes(), digest_size=DIGEST_BYTES)
    if len(layout):
        # Its length goes with it: the bytes of one part must not pass for those of another.
        digest.update(f" {len(layout)} ".encode() + layout.astype("<i4", copy=False).tobytes())
        if scores is not None:
            digest.update(scores.astype("<f8", copy=False).tobytes())
    return digest.digest()


def _encode(text: str) -> bytes:
    # Names of files that are not UTF-8 hold lone surrogates.
    return text.encode("utf-8", "surrogatepass")


def _decode(array: npt.NDArray[np.uint8]) -> str:
    return array.tobytes().decode("utf-8", "surrogatepass")
