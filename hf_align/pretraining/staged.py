"""The rows of a schedule of stages as one data set: each stage has its own blocks, mixture and rows a step.

A stage goes through its rows as often as its steps need, shuffled anew each time. The steps of all stages are
the batches of one epoch, so that a run is resumed within any of them as within an epoch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice

from hf_align.data.batching import StepSampler
from hf_align.pretraining.blocks import BlockRows
from hf_align.pretraining.segment_pairs import PairRows
from hf_align.types import PretrainingRow

Key = tuple[int, int, int]
"""Stage, pass through its rows, and row."""

_PASS_BITS = 20


@dataclass(frozen=True)
class StageRows:
    """One stage: its rows, how many steps it has, and the rows of a step on all processes together."""

    rows: BlockRows | PairRows
    steps: int
    rows_per_step: int


class StagedRows:
    """The rows of all stages, found by :data:`Key`."""

    def __init__(self, stages: Sequence[StageRows], *, seed: int) -> None:
        self.stages = tuple(stages)
        self.seed = seed

    def __len__(self) -> int:
        """Rows that are trained in all stages, repeats included."""
        return sum(stage.steps * stage.rows_per_step for stage in self.stages)

    def __getitem__(self, key: Key) -> PretrainingRow:
        stage, done, index = key
        rows = self.stages[stage].rows
        # Pairs are drawn pass by pass, from a seed of their stage; a block has other noise in each stage.
        rows.set_epoch(done if isinstance(rows, PairRows) else (stage << _PASS_BITS) + done)
        return rows[index]

    def step_sampler(self, *, rank: int, world_size: int) -> StageSampler:
        """What each step of all stages takes, for one rank."""
        return StageSampler(self, rank=rank, world_size=world_size)


class StageSampler:
    """Yields the keys of each optimizer step, stage after stage."""

    def __init__(self, rows: StagedRows, *, rank: int, world_size: int) -> None:
        self.rows = rows
        self.rank = rank
        self.world_size = world_size

    def set_epoch(self, epoch: int) -> None:
        """All stages are one epoch."""

    def __len__(self) -> int:
        return sum(stage.steps for stage in self.rows.stages)

    def __iter__(self) -> Iterator[list[Key]]:
        for number, stage in enumerate(self.rows.stages):
            yield from islice(self._passes(number, stage), stage.steps)

    def _passes(self, number: int, stage: StageRows) -> Iterator[list[Key]]:
        sampler = StepSampler(
            len(stage.rows),
            stage.rows_per_step,
            seed=self.rows.seed + number,
            rank=self.rank,
            world_size=self.world_size,
        )
        for done in count():
            sampler.set_epoch(done)
            for step in sampler:
                yield [(number, done, index) for index in step]
