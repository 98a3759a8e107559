"""Tokenised rows in flat arrays, in memory or mapped from files: a million rows without a million objects.

Rows are written chunk by chunk and read back one at a time. Which rows are used, and in which order, is the
business of ``row_selection``, keeping the files for another run that of ``cache``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, BinaryIO, overload

import numpy as np
import numpy.typing as npt

from hf_align.data.lengths import Row
from hf_align.types import Comparison, ComparisonRow, Example, Message, TokenizedRow

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

``layouts``: for a row that compares K answers the tokens of the prefix, then of each branch, in which order
they stand in ``tokens``; nothing for a row of one sequence. ``scores`` goes with it, piece by piece: the
margin (NaN where there is none), then the K scores.

``digests`` (N, 4): two words over ids and layout, two over ids, targets, layout, margin and scores."""

DIGEST_BYTES = 16


@dataclass(frozen=True)
class Piece:
    """The kept rows of one chunk: ``arrays`` as ``ARRAYS``, ends counted from the start of the piece."""

    arrays: Arrays

    def __len__(self) -> int:
        return len(self.arrays["token_ends"])


def flatten(rows: Sequence[tuple[Row, Example | Comparison]], prefix: str, *, keep_examples: bool) -> Piece:
    """Rows with their examples in flat form. ``prefix``: what every place begins with; it is not stored."""
    ids, masks, layouts, scores = zip(*(_parts(row) for row, _ in rows), strict=True) if rows else ((),) * 4
    stored = [np.where(mask, ~tokens, tokens) for tokens, mask in zip(ids, masks, strict=True)]
    places = [_encode(row.source.removeprefix(prefix)) for row, _ in rows]
    examples = [_encode(_example_text(example)) if keep_examples else b"" for _, example in rows]
    digests = b"".join(
        _digest(tokens, layout) + _digest(targets, layout, score)
        for tokens, targets, layout, score in zip(ids, stored, layouts, scores, strict=True)
    )
    return Piece(
        {
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
    )


def _parts(row: Row) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
    """(ids, target mask, layout, margin and scores) of a row, as ``ARRAYS`` describes them."""
    if isinstance(row, TokenizedRow):
        return row.input_ids, row.target_mask, np.zeros(0, np.int32), np.zeros(0, np.float64)
    layout = [len(row.prefix), *map(len, row.branches)]
    margin = np.nan if row.margin is None else row.margin
    return (
        np.concatenate([row.prefix, *(branch.input_ids for branch in row.branches)]),
        np.concatenate([np.zeros(len(row.prefix), bool), *(branch.target_mask for branch in row.branches)]),
        np.array(layout, np.int32),
        np.array([margin, *row.scores], np.float64),
    )


class FlatRows(Sequence[Row]):
    """The kept rows of one source, in its order, read from arrays as ``ARRAYS`` describes them.

    Each access builds the row anew; its arrays are the caller's own.
    """

    def __init__(self, arrays: Mapping[str, npt.NDArray[Any]], prefix: str) -> None:
        self._arrays = arrays
        self._prefix = prefix

    def __len__(self) -> int:
        return len(self._arrays["token_ends"])

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Row]: ...
    def __getitem__(self, index: int | slice) -> Row | Sequence[Row]:
        if isinstance(index, slice):
            return [self[i] for i in range(len(self))[index]]
        index = range(len(self))[index]
        tokens = self._piece("tokens", "token_ends", index)
        mask = tokens < 0
        ids, place = np.where(mask, ~tokens, tokens), self.place(index)
        layout = self._piece("layouts", "layout_ends", index)
        if not len(layout):
            return TokenizedRow(ids, mask, place)
        margin, *scores = self._piece("scores", "layout_ends", index).tolist()
        cuts = np.cumsum(layout[:-1])
        prefix, *branches = np.split(ids, cuts)
        masks = np.split(mask, cuts)[1:]
        return ComparisonRow(
            prefix,
            tuple(TokenizedRow(*branch, place) for branch in zip(branches, masks, strict=True)),
            np.array(scores, np.float64),
            None if np.isnan(margin) else margin,
            place,
        )

    def place(self, index: int) -> str:
        """Where row ``index`` stands in its source."""
        return self._prefix + _decode(self._piece("places", "place_ends", index))

    def example(self, index: int) -> Example | Comparison:
        """The example or the comparison behind row ``index``. Raises LookupError where they were not kept."""
        text = _decode(self._piece("examples", "example_ends", index))
        if not text:
            raise LookupError("the examples of these rows were not kept")
        kind, value = json.loads(text)
        if kind == "messages":
            return Example(self.place(index), messages=_messages(value))
        if kind == "comparison":
            prompt, answers, scores, margin = value
            if not isinstance(prompt, str):
                prompt = _messages(prompt)
            return Comparison(self.place(index), prompt, tuple(answers), tuple(scores), margin)
        if kind == "text":
            return Example(self.place(index), text=value)
        return Example(self.place(index), prompt=value[0], completion=value[1])

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


def _messages(turns: Sequence[tuple[str, str]]) -> tuple[Message, ...]:
    return tuple(Message(role, content) for role, content in turns)


def _turns(messages: Sequence[Message]) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in messages]


def _example_text(example: Example | Comparison) -> str:
    value: Any
    if isinstance(example, Comparison):
        prompt = example.prompt if isinstance(example.prompt, str) else _turns(example.prompt)
        kind, value = "comparison", (prompt, example.answers, example.scores, example.margin)
    elif example.messages is not None:
        kind, value = "messages", _turns(example.messages)
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
