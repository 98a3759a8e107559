"""States of the backbone on disk, found again by the tokens that they were computed for.

In a decoder the states of a sequence depend on its tokens alone, so a sequence is looked up by a hash of
them, whatever batch it stands in: packed, padded, or as a branch that continues a prefix. A file holds,
sequence after sequence, (S, L, d) numbers: S kept states of its L tokens. What this leaves out: which
sequences are kept, and where (``training.ladder_cache``).
"""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from hf_align.types import Segments

KEY_BYTES = 16
# bfloat16 has no type in numpy; only whole numbers are copied.
STORED = {torch.bfloat16: np.dtype("<u2"), torch.float16: np.dtype("<u2"), torch.float32: np.dtype("<u4")}


@dataclass(frozen=True)
class TokenSpan:
    """The tokens of one sequence in a batch: its key, and where its L tokens stand."""

    key: bytes
    row: int
    start: int
    length: int


def stretches_of(arguments: Mapping[str, Any]) -> list[TokenSpan] | None:
    """The sequences of a batch, given by the arguments of a decoder's stack.

    None where the batch is neither packed nor padded on the right.
    """
    input_ids = arguments.get("input_ids")
    if input_ids is None:
        return None
    ids = input_ids.cpu().numpy()
    segments: Segments | None = arguments.get("segments")
    if segments is not None:
        return _segments(ids[0], segments)
    mask = arguments.get("attention_mask")
    if mask is None:
        lengths = [ids.shape[1]] * len(ids)
    elif mask.ndim == 2:
        lengths = mask.sum(dim=1).tolist()
        if not all(bool(mask[row, :length].all()) for row, length in enumerate(lengths)):
            return None
    else:
        return None
    return [TokenSpan(_key(ids[row, :n]), row, 0, n) for row, n in enumerate(lengths)]


def _segments(ids: npt.NDArray[np.int64], segments: Segments) -> list[TokenSpan]:
    pieces = [ids[start : start + n] for start, n in zip(segments.starts, segments.lengths, strict=True)]
    found = []
    for number, piece in enumerate(pieces):
        parent = segments.parents[number] if segments.parents else -1
        before = pieces[parent] if parent >= 0 else piece[:0]
        found.append(TokenSpan(_key(piece, before), 0, segments.starts[number], len(piece)))
    return found


def _key(tokens: npt.NDArray[np.int64], before: npt.NDArray[np.int64] | None = None) -> bytes:
    """Of ``tokens`` behind those of ``before``, whose states are not among them."""
    prefix = tokens[:0] if before is None else before
    digest = hashlib.blake2b(np.array([len(prefix), len(tokens)], "<i8").tobytes(), digest_size=KEY_BYTES)
    digest.update(prefix.astype("<i8").tobytes())
    digest.update(tokens.astype("<i8").tobytes())
    return digest.digest()


@dataclass(frozen=True)
class Part:
    """An open file of states. ``keys`` and ``lengths``: of its sequences, in their order."""

    mapped: mmap.mmap
    keys: list[bytes]
    lengths: list[int]


def open_part(path: Path, keys: list[bytes], lengths: list[int]) -> Part:
    """Open a file that a :class:`StateWriter` has written; it may be removed afterwards."""
    with path.open("rb") as file:
        if not keys:  # an empty file cannot be mapped
            return Part(mmap.mmap(-1, 1), [], [])
        return Part(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), keys, lengths)


class StateFiles:
    """The states of all sequences in ``parts``: S of width d for each token, in the type ``stored``.

    The last are final states if ``with_final``; they are handed out in the type ``computed``.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        *,
        states: int,
        width: int,
        stored: torch.dtype,
        computed: torch.dtype,
        with_final: bool,
    ) -> None:
        self._states, self._width, self._with_final = states, width, with_final
        self._stored, self._computed = stored, computed
        self._maps = [part.mapped for part in parts]
        self._places: dict[bytes, tuple[int, int, int]] = {}
        for number, part in enumerate(parts):
            begins = np.cumsum([0, *part.lengths]).tolist()
            for key, begin, length in zip(part.keys, begins, part.lengths, strict=False):
                self._places[key] = (number, begin, length)

    def __len__(self) -> int:
        """Sequences that are known."""
        return len(self._places)

    def find(self, arguments: Mapping[str, Any]) -> tuple[list[torch.Tensor], torch.Tensor | None] | None:
        """The kept states (B, T, d) of a batch, and the final ones if they are kept; see ``ladder``.

        Zeros stand at padding. None where a sequence of the batch is not known.
        """
        stretches = stretches_of(arguments)
        if stretches is None or any(one.key not in self._places for one in stretches):
            return None
        input_ids: torch.Tensor = arguments["input_ids"]
        shape = (self._states, *input_ids.shape, self._width)
        padded = sum(one.length for one in stretches) < input_ids.numel()
        found = (np.zeros if padded else np.empty)(shape, STORED[self._stored])
        for one in stretches:
            found[:, one.row, one.start : one.start + one.length] = self._read(one.key)
        for mapped in self._maps:
            # The pages stay in the system's cache, and do not count as this process's memory.
            if hasattr(mmap, "MADV_DONTNEED"):
                mapped.madvise(mmap.MADV_DONTNEED)
        states = torch.from_numpy(found).view(self._stored).to(input_ids.device)
        if self._with_final:
            return list(states[:-1]), states[-1].to(self._computed)
        return list(states), None

    def _read(self, key: bytes) -> npt.NDArray[Any]:
        number, begin, length = self._places[key]
        kind, each = STORED[self._stored], self._states * self._width
        values = np.frombuffer(self._maps[number], kind, length * each, begin * each * kind.itemsize)
        return values.reshape(self._states, length, self._width)


class StateWriter:
    """Writes the states of sequences to a file, each sequence once."""

    def __init__(self, path: Path, dtype: torch.dtype) -> None:
        self._file = path.open("wb")
        self._dtype = dtype
        self.keys: list[bytes] = []
        self.lengths: list[int] = []
        self._known: set[bytes] = set()

    def add(self, stretches: Sequence[TokenSpan], states: Sequence[torch.Tensor]) -> None:
        """``states``: those of the batch that the sequences stand in, (B, T, d) each."""
        for one in stretches:
            if one.key in self._known:
                continue
            self._known.add(one.key)
            self.keys.append(one.key)
            self.lengths.append(one.length)
            for state in states:
                piece = state[one.row, one.start : one.start + one.length].to("cpu", self._dtype)
                self._file.write(piece.contiguous().view(torch.uint8).numpy().data)

    def close(self) -> None:
        self._file.close()
