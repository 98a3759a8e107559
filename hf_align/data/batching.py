"""Which rows make an optimizer step, and how a step is cut into micro-batches.

A step is a set of rows: ``per_device_train_batch_size x gradient_accumulation_steps x processes`` of them.
The token budget cuts a rank's share into micro-batches; it changes speed and memory, never the result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch

from hf_align.types import ComparisonRow, PretrainingRow, TokenizedRow

Row = TypeVar("Row", TokenizedRow, ComparisonRow, PretrainingRow)


class StepSampler:
    """Yields, for every optimizer step of an epoch, the indices of the rows that one rank takes.

    Every row is seen once an epoch over all ranks, none is dropped or repeated: the last step is smaller
    where the rows do not divide evenly, and a rank's share of it may be empty. The order depends on
    ``seed`` and the epoch (set by ``set_epoch``) only, so every rank draws the same permutation.
    ``also_tell``: called with each epoch, for rows that differ between epochs.
    """

    def __init__(
        self,
        rows: int,
        rows_per_step: int,
        *,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        also_tell: Callable[[int], None] | None = None,
    ) -> None:
        if rows < 1 or rows_per_step < 1:
            raise ValueError(f"need at least one row and one row a step, got {rows} and {rows_per_step}")
        self.rows = rows
        self.rows_per_step = rows_per_step
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0
        self.also_tell = also_tell

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch
        if self.also_tell is not None:
            self.also_tell(epoch)

    def __len__(self) -> int:
        return -(-self.rows // self.rows_per_step)

    def __iter__(self) -> Iterator[list[int]]:
        generator = torch.Generator()
        # The seed and the epoch take separate bits, so that (1, 2) and (2, 1) shuffle differently.
        generator.manual_seed((self.seed << 24) + self.epoch)
        order = torch.randperm(self.rows, generator=generator).tolist()
        for start in range(0, self.rows, self.rows_per_step):
            yield order[start : start + self.rows_per_step][self.rank :: self.world_size]


def split_by_tokens(
    rows: Sequence[Row], max_tokens: int, *, padded: bool = False, shared: bool = True
) -> list[list[Row]]:
    """Cut rows into micro-batches of at most ``max_tokens`` tokens each, longest rows first.

    A row longer than the budget gets a micro-batch of its own. With ``padded`` a micro-batch costs its
    number of sequences times the longest of them. Unless ``shared``, every answer of a comparison costs its
    prompt as well. Rows of similar length end up together, which keeps padding small and the shapes of the
    micro-batches alike.
    """
    batches: list[list[Row]] = []
    tokens = sequences = longest = 0
    for row in sorted(rows, key=len, reverse=True):
        count, length, apart = _sequences(row)
        cost = len(row) if shared else apart
        tokens, sequences, longest = tokens + cost, sequences + count, max(longest, length)
        if batches and (sequences * longest if padded else tokens) <= max_tokens:
            batches[-1].append(row)
            continue
        batches.append([row])
        tokens, sequences, longest = cost, count, length
    return batches


def _sequences(row: TokenizedRow | ComparisonRow | PretrainingRow) -> tuple[int, int, int]:
    """How many sequences a row has, the tokens of the longest, and those of all without sharing."""
    if not isinstance(row, ComparisonRow):
        return 1, len(row), len(row)
    lengths = [len(row.prefix) + len(branch) for branch in row.branches]
    return len(lengths), max(lengths), sum(lengths)
