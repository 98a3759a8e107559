"""Which rows make an optimizer step, and how a step is cut into micro-batches.

A step is a set of rows: ``per_device_train_batch_size x gradient_accumulation_steps x processes`` of them.
The token budget cuts a rank's share into micro-batches; it changes speed and memory, never the result.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import TypeVar

import torch

R = TypeVar("R")


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
        order = torch.randperm(self.rows, generator=order_generator(self.seed, self.epoch)).tolist()
        for start in range(0, self.rows, self.rows_per_step):
            yield order[start : start + self.rows_per_step][self.rank :: self.world_size]


def order_generator(seed: int, epoch: int) -> torch.Generator:
    """What the order of an epoch is drawn from; every bit of ``seed`` and ``epoch`` counts.

    PyTorch's generator on a CPU keeps the low 32 bits of its seed and no others.
    """
    # The seed and the epoch take separate bits, so that (1, 2) and (2, 1) shuffle differently.
    number = (seed << 24) + epoch
    if number >> 32:
        digest = hashlib.blake2b(f"{seed} {epoch}".encode(), digest_size=4).digest()
        number = int.from_bytes(digest, "little")
    return torch.Generator().manual_seed(number)


def split_by_tokens(
    rows: Sequence[R],
    max_tokens: int,
    *,
    padded: bool = False,
    shared: bool = True,
    apart: Callable[[tuple[int, ...]], Hashable] | None = None,
) -> list[list[R]]:
    """Cut rows into micro-batches of at most ``max_tokens`` tokens each, longest rows first.

    A row longer than the budget gets a micro-batch of its own. With ``padded`` a micro-batch costs its
    number of sequences times the longest of them. Unless ``shared``, every answer to a prompt costs the
    prompt as well. Rows of similar length end up together, which keeps padding small and the shapes of the
    micro-batches alike. ``apart``: of the lengths of a row's sequences; rows for which it differs never share
    a micro-batch.
    """
    if apart is not None:
        groups: dict[Hashable, list[R]] = {}
        for row in sorted(rows, key=len, reverse=True):
            groups.setdefault(apart(row.lengths), []).append(row)  # type: ignore[attr-defined]
        alike = [
            split_by_tokens(group, max_tokens, padded=padded, shared=shared) for group in groups.values()
        ]
        return list(itertools.chain.from_iterable(alike))
    batches: list[list[R]] = []
    tokens = sequences = longest = 0
    for row in sorted(rows, key=len, reverse=True):
        lengths: tuple[int, ...] = row.lengths  # type: ignore[attr-defined]
        cost = len(row) if shared else sum(lengths)
        tokens, sequences, longest = tokens + cost, sequences + len(lengths), max(longest, *lengths)
        if batches and (sequences * longest if padded else tokens) <= max_tokens:
            batches[-1].append(row)
            continue
        batches.append([row])
        tokens, sequences, longest = cost, len(lengths), max(lengths)
    return batches
