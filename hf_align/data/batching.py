"""Which rows make an optimizer step, and how a step is cut into micro-batches.

A step is a set of rows: ``per_device_train_batch_size x gradient_accumulation_steps x processes`` of them.
The token budget cuts a rank's share into micro-batches; it changes speed and memory, never the result.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from hf_align.types import TokenizedRow


class StepSampler:
    """Yields, for every optimizer step of an epoch, the indices of the rows that one rank takes.

    Every row is seen once an epoch over all ranks, none is dropped or repeated: the last step is smaller
    where the rows do not divide evenly, and a rank's share of it may be empty. The order depends on
    ``seed`` and the epoch (set by ``set_epoch``) only, so every rank draws the same permutation.
    """

    def __init__(
        self, rows: int, rows_per_step: int, *, seed: int, rank: int = 0, world_size: int = 1
    ) -> None:
        if rows < 1 or rows_per_step < 1:
            raise ValueError(f"need at least one row and one row a step, got {rows} and {rows_per_step}")
        self.rows = rows
        self.rows_per_step = rows_per_step
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

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
    rows: Sequence[TokenizedRow], max_tokens: int, *, padded: bool = False
) -> list[list[TokenizedRow]]:
    """Cut rows into micro-batches of at most ``max_tokens`` tokens each, longest rows first.

    A row longer than the budget gets a micro-batch of its own. With ``padded`` a micro-batch costs its
    number of rows times its longest row. Rows of similar length end up together, which keeps padding small
    and the shapes of the micro-batches alike.
    """
    batches: list[list[TokenizedRow]] = []
    cost = 0
    for row in sorted(rows, key=len, reverse=True):
        if batches:
            grown = (len(batches[-1]) + 1) * len(batches[-1][0]) if padded else cost + len(row)
            if grown <= max_tokens:
                batches[-1].append(row)
                cost = grown
                continue
        batches.append([row])
        cost = len(row)
    return batches
