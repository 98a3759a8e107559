"""Tells a collator, or a data set, which epoch a transformers ``Trainer`` is in.

Needed where nothing else does: Trainer passes the epoch on to samplers, to data sets in one process only, and
never to a collator.
"""

from __future__ import annotations

from typing import Any, Protocol

from transformers import TrainerCallback


class HasEpoch(Protocol):
    """A pre-training collator, or an ``IndexedDataset``."""

    def set_epoch(self, epoch: int) -> None: ...


class SetEpoch(TrainerCallback):
    """Calls ``set_epoch`` of each of ``targets`` when an epoch begins, before its first batch is fetched."""

    def __init__(self, *targets: HasEpoch) -> None:
        self.targets = targets

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        # Trainer counts epochs as a fraction of steps; an epoch that begins is a whole number, or, resumed
        # within, the whole part of one.
        epoch = int((state.epoch or 0) + 1e-6)
        for target in self.targets:
            target.set_epoch(epoch)
