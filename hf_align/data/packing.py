"""Tokenised rows to one micro-batch: packed side by side, or padded where a model cannot be packed.

Labels are shifted here, once: ``shift_labels[t]`` is the token that position t predicts. The last position
of a sequence predicts nothing, so no sequence ever predicts the first token of its neighbour.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

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
    labels = np.concatenate([shifted_labels(row) for row in rows])
    return Batch(
        input_ids=_tensor(np.concatenate([row.input_ids for row in rows])),
        position_ids=_tensor(np.concatenate([np.arange(length) for length in lengths])),
        shift_labels=_tensor(labels),
        target_tokens=int((labels != IGNORE_INDEX).sum()),
        tokens=sum(lengths),
        segments=make_segments(lengths),
        weights=_weights(rows),
    )


def _weights(rows: Sequence[TokenizedRow]) -> torch.Tensor | None:
    """(N,) float32: the weight of each target of the rows in turn; None where all are 1."""
    if all(row.weight == 1 for row in rows):
        return None
    weights = np.array([row.weight for row in rows], np.float32)
    return torch.from_numpy(np.repeat(weights, [int(row.target_mask[1:].sum()) for row in rows]))


def make_segments(
    lengths: Sequence[int], parents: Sequence[int] = (), device: torch.device | str = "cpu"
) -> Segments:
    """Segments of these ``lengths`` (S,), one behind the other; ``parents`` (S,) as in :class:`Segments`.

    Raises ValueError where a parent does not stand before its child or has a parent itself.
    """
    boundaries = [0, *np.cumsum(lengths).tolist()]
    cu_seqlens = torch.tensor(boundaries, dtype=torch.int32, device=device)
    starts = tuple(boundaries[:-1])
    if all(parent < 0 for parent in parents):
        return Segments(starts, tuple(lengths), cu_seqlens)
    positions, key_ends = [], [0]
    for child, parent in enumerate(parents):
        if parent >= child or (parent >= 0 and parents[parent] >= 0):
            raise ValueError(f"segment {child} cannot continue segment {parent}")
        for segment in (parent, child) if parent >= 0 else (child,):
            positions.append(np.arange(boundaries[segment], boundaries[segment + 1]))
        key_ends.append(key_ends[-1] + lengths[child] + (lengths[parent] if parent >= 0 else 0))
    return Segments(
        starts,
        tuple(lengths),
        cu_seqlens,
        parents=tuple(parents),
        key_index=torch.from_numpy(np.concatenate(positions)).to(device),
        cu_seqlens_k=torch.tensor(key_ends, dtype=torch.int32, device=device),
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
        weights=_weights(rows),
    )


Tensors = TypeVar("Tensors")


def to_device(batch: Tensors, device: torch.device | str) -> Tensors:
    """The same batch, other dataclass of this package or dictionary, with its tensors on ``device``."""
    moved: Tensors = _on_device(batch, device)
    return moved


def _on_device(value: Any, device: torch.device | str) -> Any:
    if isinstance(value, torch.Tensor):
        return value.to(device)
    if isinstance(value, dict):
        return {name: _on_device(one, device) for name, one in value.items()}
    if not is_dataclass(value) or isinstance(value, type):
        return value
    own = {item.name: getattr(value, item.name) for item in fields(value)}
    changed = {
        name: _on_device(one, device)
        for name, one in own.items()
        if isinstance(one, torch.Tensor | dict) or is_dataclass(one)
    }
    return replace(value, **changed)


def _tensor(values: npt.NDArray[np.generic]) -> torch.Tensor:
    return torch.from_numpy(values.astype(np.int64)).unsqueeze(0)
