"""Training rows read while training: a shuffled, weighted interleaving of sources that may not fit in memory.

A pass (epoch) ends when every source has ended at least once; a source that ends before is read again from
its start. So each row of each source appears in every pass, and rows of small or heavily weighted sources
appear more often. One source is simply read through.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np

from hf_align.data.pipeline import DataSource, check_overlong, check_shares, kept_rows
from hf_align.data.report import SourceReport
from hf_align.errors import UserError
from hf_align.types import Row

_ROWS_BEFORE_SHARES_COUNT = 100


@dataclass
class RowStream:
    """An iterable over the training rows of one pass; iterating again starts the pass anew.

    The order depends on ``seed`` and the epoch only. ``held_out[i]`` rows at the start of source i belong to
    the evaluation data and are left out. Weights are shares of rows drawn. The source reports count the
    latest pass, each source up to its first end.

    Errors while iterating: ``UserError`` where a source has no usable row, or its share of malformed rows or
    of rows without a target is over the limit, judged from 100 rows on and at its end.
    """

    sources: Sequence[DataSource]
    held_out: Sequence[int]
    seed: int
    epoch: int = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of the next pass."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[Row]:
        choosing, shuffling = (np.random.default_rng([self.seed, self.epoch, use]) for use in (0, 1))
        return shuffled(self._interleaved(choosing), self.sources[0].data.shuffle_buffer_size, shuffling)

    def _interleaved(self, rng: np.random.Generator) -> Iterator[Row]:
        weights = np.array([source.dataset.weight for source in self.sources], dtype=np.float64)
        shares = weights / weights.sum()
        for source in self.sources:
            source.report.clear()
        passes = [self._one_pass(i, self.sources[i]) for i in range(len(self.sources))]
        running = set(range(len(self.sources)))
        while True:
            i = int(rng.choice(len(self.sources), p=shares)) if len(self.sources) > 1 else 0
            row = next(passes[i], None)
            if row is None:
                running.discard(i)
                if not running:
                    return
                report = self.sources[i].report
                uncounted = replace(self.sources[i], report=SourceReport(report.name, report.role))
                passes[i] = self._one_pass(i, uncounted)
                row = next(passes[i])
            yield row

    def _one_pass(self, index: int, source: DataSource) -> Iterator[Row]:
        report, data, empty = source.report, source.data, True
        for row, _ in islice(kept_rows(source, streaming=True), self.held_out[index], None):
            if report.read >= _ROWS_BEFORE_SHARES_COUNT:
                check_shares(report, data)
            check_overlong([report], data)
            empty = False
            yield row
        check_shares(report, data)
        check_overlong([report], data)
        if empty:
            raise UserError(f"{report.name}: none of its {report.read} rows can be used for training.")


def shuffled(rows: Iterable[Row], buffer_size: int, rng: np.random.Generator) -> Iterator[Row]:
    """Every row once, drawn at random from a buffer of ``buffer_size`` rows that is refilled in order."""
    buffer: list[Row] = []
    for row in rows:
        if len(buffer) < buffer_size:
            buffer.append(row)
            continue
        place = int(rng.integers(buffer_size))
        row, buffer[place] = buffer[place], row
        yield row
    yield from (buffer[i] for i in rng.permutation(len(buffer)))
