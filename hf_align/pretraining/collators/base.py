"""What all collators share: the tokenizer, the seed, the epoch, and tensors at the end.

How a collator gets to know the epoch, any of these:

- each example carries ``epoch`` beside ``index``, as ``IndexedDataset`` (``collators.indexed``) gives them;
- ``collator.set_epoch(epoch)`` before each pass over a DataLoader;
- with a transformers ``Trainer``, ``callbacks=[SetEpoch(collator)]`` (``pretraining.collator_epoch``).

The epoch lies in shared memory, so worker processes see it, those that live on from epoch to epoch included.
Nothing else changes in a collator once it is made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from hf_align.errors import UserError
from hf_align.pretraining.collators.draws import Integers
from hf_align.pretraining.collators.rows import Rows, padded, read_rows, real_tokens, width_of
from hf_align.pretraining.collators.vocabulary import Vocabulary
from hf_align.types import IGNORE_INDEX

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Arrays = dict[str, npt.NDArray[Any]]


def _shared_zero() -> torch.Tensor:
    return torch.zeros(1, dtype=torch.int64).share_memory_()


@dataclass(frozen=True, eq=False)
class Collator:
    """A list of B examples to a dictionary of tensors; subclasses say how in :meth:`collate`.

    ``seed``: of the noise. ``pad_to_multiple_of``: widths are rounded up to it.
    """

    tokenizer: PreTrainedTokenizerBase = field(repr=False)
    seed: int = field(default=0, kw_only=True)
    pad_to_multiple_of: int = field(default=1, kw_only=True)
    _epoch: torch.Tensor = field(default_factory=_shared_zero, init=False, repr=False)

    def __post_init__(self) -> None:
        check_at_least("pad_to_multiple_of", self.pad_to_multiple_of, 1)

    @property
    def epoch(self) -> int:
        """The epoch of examples that carry none."""
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        """Choose the noise of examples that carry no epoch, in this process and in running workers."""
        self._epoch.fill_(epoch)

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """Tables over the tokenizer's vocabulary, made once."""
        return Vocabulary(self.tokenizer)

    def __call__(self, examples: Sequence[Any]) -> dict[str, torch.Tensor]:
        rows = read_rows(examples, seed=self.seed, epoch=self.epoch)
        self.vocabulary.check_ids(rows.ids)
        return tensors(self.collate(rows))

    def collate(self, rows: Rows) -> Arrays:
        """The arrays of one batch."""
        raise NotImplementedError

    def padded_inputs(self, ids: Integers, lengths: Integers) -> Arrays:
        """``input_ids`` and ``attention_mask`` (B, T) of flat ``ids``."""
        real = real_tokens(lengths, width_of(lengths, self.pad_to_multiple_of))
        return {
            "input_ids": padded(ids, real, self.vocabulary.pad_id),
            "attention_mask": real.astype(np.int64),
        }

    def padded_labels(self, ids: Integers, lengths: Integers) -> Integers:
        """(B, T) flat ``ids`` as labels, -100 behind them."""
        real = real_tokens(lengths, width_of(lengths, self.pad_to_multiple_of))
        return padded(ids, real, IGNORE_INDEX)


def tensors(arrays: Arrays) -> dict[str, torch.Tensor]:
    """The same arrays as tensors, sharing their memory."""
    return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}


def check_at_least(name: str, value: float, least: float) -> None:
    """Raise UserError where an option is below ``least``."""
    if not value >= least:
        raise UserError(f"{name}: found {value}, expected a number of at least {least:g}")


def check_above(name: str, value: float, limit: float) -> None:
    """Raise UserError where an option is not above ``limit``."""
    if not value > limit:
        raise UserError(f"{name}: found {value}, expected a number above {limit:g}")


def check_probability(**options: float) -> None:
    """Raise UserError for an option that is not a number from 0 to 1."""
    for name, value in options.items():
        if not 0 <= value <= 1:
            raise UserError(f"{name}: found {value}, expected a number from 0 to 1")
