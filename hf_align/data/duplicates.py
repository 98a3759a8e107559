"""Leaves repeated rows out of training: of rows that teach the same, the first one of all sources stays.

Rows teach the same where their tokens, targets, scores and, in classification, classes are the same. Counting
repeats without leaving any out is done as rows are stored (``store.datasets``).
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
import numpy.typing as npt

from hf_align.data.report import SourceReport
from hf_align.data.store.flat_rows import FlatRows
from hf_align.types import LabelledText

Numbers = npt.NDArray[np.int64]


def without_repeats(sources: Sequence[FlatRows], reports: Sequence[SourceReport]) -> list[Numbers]:
    """The numbers of the rows of each source that stay, in order; the others are counted in its report."""
    if not sum(map(len, sources)):
        return [np.zeros(0, np.int64) for _ in sources]
    keys = np.concatenate([_keys(rows) for rows in sources])
    stays = np.zeros(len(keys), dtype=bool)
    stays[np.unique(keys, axis=0, return_index=True)[1]] = True
    kept = []
    ends = np.cumsum([len(rows) for rows in sources])
    for rows, report, stay in zip(sources, reports, np.split(stays, ends[:-1]), strict=True):
        for index in np.flatnonzero(~stay).tolist():
            row = rows[index]
            report.kept -= 1
            report.repeated += 1
            report.tokens -= len(row)
            report.target_tokens -= row.target_tokens
        kept.append(np.flatnonzero(stay))
    return kept


def _keys(rows: FlatRows) -> npt.NDArray[np.uint64]:
    """(N, 3): what each row teaches as two words, and as a third its class, which its tokens do not hold."""
    classes = np.zeros((len(rows), 1), np.uint64)
    if rows.labelled:
        for index in range(len(rows)):
            example = rows.example(index)
            label = example.label if isinstance(example, LabelledText) else ""
            classes[index] = int.from_bytes(blake2b(label.encode(), digest_size=8).digest(), "little")
    return np.hstack((rows.digests[:, 2:], classes))
