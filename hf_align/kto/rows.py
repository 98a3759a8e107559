"""The rows of a KTO step: each with its own answer, and with the answer of the row before it in the step.

The KL estimate needs answers that do not belong to their prompts. They are made of the rows of the optimizer
step in its shuffled order: the prompt of each row with the answer of the row before it, that of the first row
with the answer of the last. So the estimate is one number for each step, of all its rows on all processes,
and does not depend on how the step is cut into micro-batches or shared out. A step of one row has no such
pair.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from hf_align.data.batching import StepSampler, order_generator
from hf_align.data.comparisons.batches import collate_comparisons
from hf_align.types import ComparisonRow, LazySequence, TokenizedRow, UnpairedBatch


@dataclass(frozen=True, slots=True)
class KtoRow:
    """``answer``: a row of one answer. ``mismatched``: its prompt with the answer of another row, without
    targets where there is none; None where the loss asks for no estimate."""

    answer: ComparisonRow
    mismatched: ComparisonRow | None = None

    def __len__(self) -> int:
        return len(self.answer)

    @property
    def lengths(self) -> tuple[int, ...]:
        return self.answer.lengths


@dataclass(frozen=True)
class StepOrder:
    """Which of ``rows`` rows stand where in the steps of each epoch; numbers count through all epochs."""

    rows: int
    rows_per_step: int
    seed: int

    def row(self, number: int) -> int:
        """The row at place ``number % rows`` of epoch ``number // rows``."""
        epoch, place = divmod(number, self.rows)
        return _epoch_order(self.rows, self.seed, epoch)[place]

    def before(self, number: int) -> int | None:
        """The row before it in its step, the last for the first one; None where the step has one row."""
        epoch, place = divmod(number, self.rows)
        start = place - place % self.rows_per_step
        end = min(start + self.rows_per_step, self.rows)
        if end - start == 1:
            return None
        return self.row(epoch * self.rows + (place if place > start else end) - 1)


@lru_cache(maxsize=2)
def _epoch_order(rows: int, seed: int, epoch: int) -> list[int]:
    # As StepSampler draws it.
    return list(torch.randperm(rows, generator=order_generator(seed, epoch)).tolist())


@dataclass(frozen=True)
class Mismatched(LazySequence[ComparisonRow]):
    """For each place of ``epochs`` epochs the prompt that stands there with the answer of the row before.

    ``max_length``: longer sequences are cut, as rows are.
    """

    rows: Sequence[ComparisonRow]
    order: StepOrder
    epochs: int
    max_length: int

    def __len__(self) -> int:
        return len(self.rows) * self.epochs

    def item(self, index: int) -> ComparisonRow:
        other = self.order.before(index)
        if other is None:
            return without_targets()
        return mismatched(self.rows[self.order.row(index)], self.rows[other]).cut(self.max_length)


def mismatched(row: ComparisonRow, other: ComparisonRow) -> ComparisonRow:
    """The prompt of ``row`` with the answer of ``other``."""
    (own,), (answer,) = row.branches, other.branches
    # A branch begins with the last token of its prompt.
    ids = np.concatenate([own.input_ids[:1], answer.input_ids[1:]])
    branch = TokenizedRow(ids, answer.target_mask.copy(), row.source)
    return replace(row, branches=(branch,), reference_logps=None)


def without_targets() -> ComparisonRow:
    """A row of two tokens that counts nowhere."""
    branch = TokenizedRow(np.zeros(2, dtype=np.int32), np.zeros(2, dtype=bool))
    nothing = np.zeros(0, dtype=np.float32)
    return ComparisonRow(np.zeros(0, np.int32), (branch,), np.zeros(1), reference_logps=(nothing,))


def filler() -> KtoRow:
    """A row that adds nothing to any loss or estimate."""
    return KtoRow(without_targets(), without_targets())


@dataclass(frozen=True)
class KtoRows(Sequence[KtoRow]):
    """Rows in the order of their steps, found by :class:`StepOrder`'s numbers; one epoch is its length.

    ``mismatched``: those of as many epochs as are trained, or None.
    """

    rows: Sequence[ComparisonRow]
    order: StepOrder
    mismatched: Sequence[ComparisonRow] | None

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[KtoRow]:
        return (self[number] for number in range(len(self)))

    def __getitem__(self, number: Any) -> Any:
        answer = self.rows[self.order.row(number)]
        return KtoRow(answer, None if self.mismatched is None else self.mismatched[number])

    def step_sampler(self, *, rank: int, world_size: int) -> NumberedSteps:
        """The numbers that one rank takes in each step."""
        order = self.order
        return NumberedSteps(
            order.rows, order.rows_per_step, seed=order.seed, rank=rank, world_size=world_size
        )


class NumberedSteps(StepSampler):
    """The places of each step of the epoch, counted through all epochs, instead of the rows that stand
    there."""

    def __iter__(self) -> Iterator[list[int]]:
        begin = self.epoch * self.rows
        for start in range(begin, begin + self.rows, self.rows_per_step):
            end = min(start + self.rows_per_step, begin + self.rows)
            yield list(range(start, end))[self.rank :: self.world_size]


def collate_unpaired(rows: Sequence[KtoRow], *, packed: bool, pad_token_id: int = 0) -> UnpairedBatch:
    """Raises ValueError without rows."""

    def collated(some: list[ComparisonRow]) -> Any:
        return collate_comparisons(some, packed=packed, share_prefix=False, pad_token_id=pad_token_id)

    others = [row.mismatched for row in rows if row.mismatched is not None]
    return UnpairedBatch(
        answers=collated([row.answer for row in rows]),
        desirable=torch.tensor([bool(row.answer.scores[0] > 0) for row in rows]),
        mismatched=collated(others) if others else None,
    )
