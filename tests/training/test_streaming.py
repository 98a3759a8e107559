from __future__ import annotations

import itertools

from helpers.tiny_models import random_rows

from hf_align.training.streaming import RankStream

ROWS = random_rows([3, 4, 5, 6, 7])


class Source:
    """A stream whose order is reversed in every second epoch."""

    def __init__(self) -> None:
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self):
        return iter(ROWS if self.epoch % 2 == 0 else ROWS[::-1])


def test_ranks_share_the_rows_of_every_epoch_without_overlap() -> None:
    shares = [list(itertools.islice(RankStream(Source(), rank=r, world_size=2), 5)) for r in (0, 1)]
    together = [row.source for pair in zip(*shares, strict=True) for row in pair]
    expected = [row.source for row in [*ROWS, *ROWS[::-1]]]
    assert together == expected


def test_one_rank_reads_everything_again_and_again() -> None:
    seen = [row.source for row in itertools.islice(RankStream(Source()), 12)]
    assert seen[:10] == [row.source for row in [*ROWS, *ROWS[::-1]]]
    assert seen[10:] == [row.source for row in ROWS[:2]]
