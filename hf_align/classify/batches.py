"""Rows with labels to one micro-batch: packed side by side, or padded where a model pools or cannot pack."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from hf_align.data.packing import pack_rows, pad_rows
from hf_align.types import LabelledBatch, LabelledRow


def collate_labelled(
    rows: Sequence[LabelledRow], *, packed: bool, pad_token_id: int = 0, segment_ids: bool = False
) -> LabelledBatch:
    """``segment_ids``: whether the model reads them; padding has the segment 0.

    Raises ValueError without rows.
    """
    inputs = pack_rows(rows) if packed else pad_rows(rows, pad_token_id)
    lengths = np.array([len(row) for row in rows])
    width = inputs.input_ids.shape[1]
    starts = np.cumsum(lengths) - lengths if packed else np.arange(len(rows)) * width
    segments = None
    if segment_ids:
        kinds = np.zeros(inputs.input_ids.numel(), dtype=np.int64)
        for start, row in zip(starts.tolist(), rows, strict=True):
            if row.segment_ids is not None:
                kinds[start : start + len(row)] = row.segment_ids
        segments = torch.from_numpy(kinds.reshape(inputs.input_ids.shape))
    return LabelledBatch(
        inputs=inputs,
        last_tokens=torch.from_numpy(starts + lengths - 1),
        labels=torch.tensor([row.label for row in rows]),
        numbers=torch.tensor([row.number for row in rows]),
        segment_ids=segments,
    )


def without_label() -> LabelledRow:
    """A row of two tokens that adds nothing to any loss."""
    return LabelledRow(np.zeros(2, dtype=np.int32), np.zeros(2, dtype=bool))
