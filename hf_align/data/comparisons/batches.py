"""Compared answers to one micro-batch: a packed tree for each prompt, or padded sequences.

Packed with shared prefixes, a prompt is one segment and its answers are segments that continue it. Without
sharing, or padded where a model cannot be packed, every answer comes with a copy of its prompt. The numbers
that come out are the same; the tokens that are computed are not.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import numpy as np
import numpy.typing as npt
import torch

from hf_align.data.packing import make_segments, pad_rows, shifted_labels
from hf_align.types import IGNORE_INDEX, Batch, ComparisonBatch, ComparisonRow, TokenizedRow


def collate_comparisons(
    rows: Sequence[ComparisonRow], *, packed: bool, share_prefix: bool = True, pad_token_id: int = 0
) -> ComparisonBatch:
    """The answers of all rows, numbered in order, and their pairs.

    ``share_prefix`` applies to packed batches; ``pad_token_id`` to padded ones. The reference's
    log-probabilities are there if every row has them. Raises ValueError without rows.
    """
    if not rows:
        raise ValueError("collate_comparisons needs at least one row")
    if packed:
        inputs, last_tokens = _trees(rows, share_prefix)
    else:
        sequences = [row.sequence(k) for row in rows for k in range(len(row.branches))]
        inputs = pad_rows(sequences, pad_token_id)
        width = inputs.input_ids.shape[1]
        last_tokens = [i * width + len(sequence) - 1 for i, sequence in enumerate(sequences)]
    answers = [branch for row in rows for branch in row.branches]
    lengths = [branch.target_tokens for branch in answers]
    chosen, rejected, weights, margins = numbered_pairs(rows)
    return ComparisonBatch(
        inputs=inputs,
        target_answers=torch.from_numpy(np.repeat(np.arange(len(answers)), lengths)),
        last_tokens=torch.tensor(last_tokens),
        answer_lengths=torch.tensor(lengths),
        chosen=torch.tensor(chosen, dtype=torch.long),
        rejected=torch.tensor(rejected, dtype=torch.long),
        pair_weights=torch.tensor(weights, dtype=torch.float32),
        margins=torch.tensor(margins, dtype=torch.float32),
        prompts=len(rows),
        reference_logps=_reference(rows),
    )


def without_pairs() -> ComparisonRow:
    """A row of two short answers that adds nothing to any loss."""
    branch = TokenizedRow(np.zeros(2, dtype=np.int32), np.zeros(2, dtype=bool))
    nothing = np.zeros(0, dtype=np.float32)
    return ComparisonRow(
        np.zeros(0, dtype=np.int32), (branch, branch), np.zeros(2), reference_logps=(nothing, nothing)
    )


def _trees(rows: Sequence[ComparisonRow], share_prefix: bool) -> tuple[Batch, list[int]]:
    """All rows in one line, and the position of each answer's last token."""
    ids: list[npt.NDArray[np.int32]] = []
    positions: list[npt.NDArray[np.int64]] = []
    labels: list[npt.NDArray[np.int64]] = []
    parents: list[int] = []
    ends: list[int] = []
    for row in rows:
        parent = -1
        offset = 0
        if share_prefix and len(row.prefix):
            parent, offset = len(ids), len(row.prefix)
            ids.append(row.prefix)
            positions.append(np.arange(offset))
            labels.append(np.full(offset, IGNORE_INDEX, dtype=np.int64))
            parents.append(-1)
        for k, branch in enumerate(row.branches):
            piece = branch if share_prefix else row.sequence(k)
            ids.append(piece.input_ids)
            positions.append(np.arange(offset, offset + len(piece)))
            labels.append(shifted_labels(piece))
            parents.append(parent)
            ends.append(len(ids) - 1)
    lengths = [len(piece) for piece in ids]
    last = np.cumsum(lengths) - 1
    shift_labels = np.concatenate(labels)
    batch = Batch(
        input_ids=_line(ids),
        position_ids=_line(positions),
        shift_labels=torch.from_numpy(shift_labels).unsqueeze(0),
        target_tokens=int((shift_labels != IGNORE_INDEX).sum()),
        tokens=int(last[-1]) + 1,
        segments=make_segments(lengths, parents),
    )
    return batch, [int(last[segment]) for segment in ends]


def numbered_pairs(rows: Sequence[ComparisonRow]) -> tuple[list[int], list[int], list[float], list[float]]:
    """(chosen, rejected, weights, margins) of all pairs, with answers numbered through the rows."""
    chosen: list[int] = []
    rejected: list[int] = []
    weights: list[float] = []
    margins: list[float] = []
    first = 0
    for row in rows:
        pairs = row.pairs()
        chosen += [first + i for i, _ in pairs]
        rejected += [first + j for _, j in pairs]
        weights += [1.0 / len(pairs) for _ in pairs]
        margins += [row.margin or 0.0] * len(pairs)
        first += len(row.branches)
    return chosen, rejected, weights, margins


def _reference(rows: Sequence[ComparisonRow]) -> torch.Tensor | None:
    known = [row.reference_logps for row in rows if row.reference_logps is not None]
    if len(known) < len(rows):
        return None
    return torch.from_numpy(np.concatenate([*chain.from_iterable(known), np.zeros(0, np.float32)]))


def _line(pieces: Sequence[npt.NDArray[np.int32] | npt.NDArray[np.int64]]) -> torch.Tensor:
    return torch.from_numpy(np.concatenate(pieces).astype(np.int64)).unsqueeze(0)
