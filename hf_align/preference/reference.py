"""The reference's log-probabilities before training: one pass over all rows, and rows that carry the result.

A reference that never changes has to be run only once for each row. So full fine-tuning needs no second model
in memory, and neither does a reference other than the model that is trained. Keeping the result on disk for
other runs is the business of ``reference_store``.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt
import torch
from tqdm.auto import tqdm

from hf_align.data.batching import split_by_tokens
from hf_align.data.packing import to_device
from hf_align.data.row_selection import RowSelection
from hf_align.errors import UserError
from hf_align.modeling.inputs import model_inputs
from hf_align.modeling.lengths_apart import lengths_apart
from hf_align.modeling.precision import Precision, compute_dtype
from hf_align.types import ComparisonBatch, ComparisonRow

Rows = Sequence[ComparisonRow]
Logps = npt.NDArray[np.float32]

DIGEST = np.dtype([("first", "<u8"), ("second", "<u8")])
"""128 bits that stand for the tokens of a row."""

_ROWS_OF_A_CHUNK = 1024


@dataclasses.dataclass(frozen=True)
class ReferencePass:
    """How the reference is run: as the policy in training, by ``collate``, ``max_tokens`` at a time.

    ``layout``: what a batch looks like: trees with a shared prefix, sequences side by side, or padded ones.
    """

    collate: Callable[[Rows], ComparisonBatch]
    layout: Literal["shared", "packed", "padded"]
    max_tokens: int
    precision: Precision
    device: torch.device


@torch.no_grad()
def reference_logps(
    model: torch.nn.Module,
    rows: Rows,
    how: ReferencePass,
    *,
    share: tuple[int, int] = (0, 1),
    show: bool = True,
) -> Logps:
    """(targets of all rows,) float32, in nats: by row, by branch of the row, by target of the branch.

    ``model``: a causal language model with a target head; it is run in evaluation mode. ``share`` (i, n):
    only every n-th micro-batch from the i-th on, with zeros for the rest, so that the sum over n processes is
    what one process computes, bit for bit. Raises UserError for a model that gives numbers that are not
    finite.
    """
    ends = target_ends(rows)
    found = np.zeros(int(ends[-1]) if len(ends) else 0, dtype=np.float32)
    half = how.precision != "fp32"
    autocast = torch.autocast(how.device.type, compute_dtype(how.precision), enabled=half)
    was_training = model.training
    model.eval()
    bar = tqdm(total=len(rows), desc="reference", unit="row", leave=False, disable=not show)
    with bar, autocast:
        for number, numbered in enumerate(_micro_batches(model, rows, how)):
            if number % share[1] == share[0]:
                batch = to_device(how.collate([row for _, row in numbered]), how.device)
                logps = model(**model_inputs(batch.inputs))["logps"].float().cpu().numpy()
                _place(logps, numbered, ends, found)
            bar.update(len(numbered))
    model.train(was_training)
    return found


def _micro_batches(
    model: torch.nn.Module, rows: Rows, how: ReferencePass
) -> Iterator[list[tuple[int, ComparisonRow]]]:
    """Rows with their numbers, cut by the token budget; some rows at a time, so that few are in memory."""
    for start in range(0, len(rows), _ROWS_OF_A_CHUNK):
        chunk = [rows[i] for i in range(start, min(start + _ROWS_OF_A_CHUNK, len(rows)))]
        # A row may stand there twice.
        numbers: dict[int, list[int]] = {}
        for i, row in enumerate(chunk):
            numbers.setdefault(id(row), []).append(start + i)
        layout = {"padded": how.layout == "padded", "shared": how.layout == "shared"}
        apart = lengths_apart(model, padded=how.layout == "padded")
        for batch in split_by_tokens(chunk, how.max_tokens, **layout, apart=apart):
            yield [(numbers[id(row)].pop(), row) for row in batch]


def _place(
    logps: Logps, numbered: list[tuple[int, ComparisonRow]], ends: npt.NDArray[np.int64], found: Logps
) -> None:
    done = 0
    for number, row in numbered:
        count = row.target_tokens
        piece = logps[done : done + count]
        if not np.isfinite(piece).all():
            raise UserError(
                f"{row.source}: the reference model gives log-probabilities that are not finite numbers. "
                "Check its weights, or compute in another precision (precision: fp32)."
            )
        found[ends[number] - count : ends[number]] = piece
        done += count


def target_ends(rows: Rows) -> npt.NDArray[np.int64]:
    """(rows,): where the targets of each row end when those of all rows stand in one array."""
    counts = (rows[i].target_tokens for i in range(len(rows)))
    return np.cumsum(np.fromiter(counts, np.int64, count=len(rows)))


def row_digests(rows: Rows) -> npt.NDArray[Any]:
    """(rows,) of ``DIGEST``: equal where prompt, answers and targets are, whichever answer is the better."""
    found = np.zeros(len(rows), DIGEST)
    for i in range(len(rows)):
        found[i : i + 1] = np.frombuffer(_digest(rows[i]), DIGEST)
    return found


def _digest(row: ComparisonRow) -> bytes:
    lengths = [len(row.prefix), *(len(branch) for branch in row.branches)]
    digest = blake2b(np.array(lengths, "<i8").tobytes(), digest_size=DIGEST.itemsize)
    digest.update(row.prefix.astype("<i4", copy=False).tobytes())
    for branch in row.branches:
        digest.update(branch.input_ids.astype("<i4", copy=False).tobytes())
        digest.update(branch.target_mask.tobytes())
    return digest.digest()


class ReferencedRows(Sequence[ComparisonRow]):
    """The same rows in the same order, each with the reference's log-probabilities.

    ``logps``: as :func:`reference_logps` gives them, possibly of more rows, or mapped from a file. ``starts``
    (rows,): where in it the targets of each row begin.
    """

    def __init__(self, rows: Rows, logps: Logps, starts: npt.NDArray[np.int64]) -> None:
        self.rows = rows
        self._logps = logps
        self._starts = starts

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return ReferencedRows(self.rows[index], self._logps, self._starts[index])
        row = self.rows[index]
        ends = int(self._starts[index]) + np.cumsum([0, *(branch.target_tokens for branch in row.branches)])
        pieces = (np.array(self._logps[start:end]) for start, end in itertools.pairwise(ends))
        return dataclasses.replace(row, reference_logps=tuple(pieces))

    @property
    def fingerprint(self) -> str:
        """That of the rows: log-probabilities follow from them and from the reference."""
        return cast(RowSelection, self.rows).fingerprint
