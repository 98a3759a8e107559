"""Tokenised rows to one micro-batch: packed side by side, or padded where a model cannot be packed.

Labels are shifted here, once: ``shift_labels[t]`` is the token that position t predicts. The last position
of a sequence predicts nothing, so no sequence ever predicts the first token of its neighbour.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from hf_align.types import IGNORE_INDEX, Batch, Segments, TokenizedRow


def shifted_labels(row: TokenizedRow) -> npt.NDArray[np.int64]:
    """(L,) int64: the token after each position where that token is a target, else -100."""
    labels = np.full(len(row), IGNORE_INDEX, dtype=np.int64)
    labels[:-1] = np.where(row.target_mask[1:], row.input_ids[1:], IGNORE_INDEX)
    return labels


def pack_rows(rows: Sequence[TokenizedRow]) -> Batch:
    """All rows in one line of T = sum of their lengths, positions restarting at 0 in every row.

    Raises ValueError without rows.
    """
    if not rows:
        raise ValueError("pack_rows needs at least one row")
    lengths = [len(row) for row in rows]
    boundaries = np.concatenate([[0], np.cumsum(lengths)])
    labels = np.concatenate([shifted_labels(row) for row in rows])
    return Batch(
        input_ids=_tensor(np.concatenate([row.input_ids for row in rows])),
        position_ids=_tensor(np.concatenate([np.arange(length) for length in lengths])),
        shift_labels=_tensor(labels),
        target_tokens=int((labels != IGNORE_INDEX).sum()),
        tokens=int(boundaries[-1]),
        segments=Segments(
            starts=tuple(int(start) for start in boundaries[:-1]),
            lengths=tuple(lengths),
            cu_seqlens=torch.tensor(boundaries, dtype=torch.int32),
        ),
    )


def pad_rows(rows: Sequence[TokenizedRow], pad_token_id: int) -> Batch:
    """Rows below each other, padded on the right to the longest: (B, T). Raises ValueError without rows."""
    if not rows:
        raise ValueError("pad_rows needs at least one row")
    shape = (len(rows), max(len(row) for row in rows))
    input_ids = np.full(shape, pad_token_id, dtype=np.int64)
    labels = np.full(shape, IGNORE_INDEX, dtype=np.int64)
    mask = np.zeros(shape, dtype=np.int64)
    for i, row in enumerate(rows):
        input_ids[i, : len(row)] = row.input_ids
        labels[i, : len(row)] = shifted_labels(row)
        mask[i, : len(row)] = 1
    return Batch(
        input_ids=torch.from_numpy(input_ids),
        position_ids=torch.arange(shape[1]).expand(shape).contiguous(),
        shift_labels=torch.from_numpy(labels),
        target_tokens=int((labels != IGNORE_INDEX).sum()),
        tokens=int(mask.sum()),
        attention_mask=torch.from_numpy(mask),
    )


def to_device(batch: Batch, device: torch.device | str) -> Batch:
    """The same batch with every tensor on ``device``."""
    segments = batch.segments
    if segments is not None:
        segments = Segments(segments.starts, segments.lengths, segments.cu_seqlens.to(device))
    return Batch(
        input_ids=batch.input_ids.to(device),
        position_ids=batch.position_ids.to(device),
        shift_labels=batch.shift_labels.to(device),
        target_tokens=batch.target_tokens,
        tokens=batch.tokens,
        segments=segments,
        attention_mask=None if batch.attention_mask is None else batch.attention_mask.to(device),
    )


def _tensor(values: npt.NDArray[np.generic]) -> torch.Tensor:
    return torch.from_numpy(values.astype(np.int64)).unsqueeze(0)
