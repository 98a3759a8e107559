"""A data set whose items know their number and the epoch, which is what a collator's noise depends on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.utils.data import Dataset

from hf_align.pretraining.collators.rows import ids_of


class IndexedDataset(Dataset[dict[str, Any]]):
    """``items`` with ``index`` added to each, and ``epoch`` once :meth:`set_epoch` was called.

    ``items``: a sequence of mappings, of objects with ``input_ids``, or of id sequences. The epoch lies in
    shared memory, so that worker processes of a DataLoader see it, those with ``persistent_workers``
    included; call ``set_epoch`` before each pass. Accelerate's data loaders, and through them Trainer in one
    process, call it by themselves. Until then the collator's own epoch counts.
    """

    def __init__(self, items: Sequence[Any]) -> None:
        self.items = items
        self._epoch = torch.full((1,), -1, dtype=torch.int64).share_memory_()

    def set_epoch(self, epoch: int) -> None:
        self._epoch.fill_(epoch)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> dict[str, Any]:
        item = self.items[index]
        example = dict(item) if isinstance(item, Mapping) else {"input_ids": ids_of(item)}
        example["index"] = index
        if (epoch := int(self._epoch)) >= 0:
            example["epoch"] = epoch
        return example
