"""Rows of several sources in any order, repeated or not, and a fingerprint that sees each of them."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.token_documents import selection

from hf_align.data.row_selection import RowSelection

ONE, TWO = selection([[1], [2, 2]]), selection([[3, 3, 3], [4], [5]])


def chosen(*indices: int) -> RowSelection:
    return RowSelection([*ONE.sources, *TWO.sources], np.array(indices, np.int64))


def test_indices_number_the_rows_of_all_sources() -> None:
    rows = chosen(4, 1, 1, 2)
    assert [row.input_ids.tolist() for row in rows] == [[5], [2, 2], [2, 2], [3, 3, 3]]
    assert rows.lengths.tolist() == [1, 2, 2, 3] and rows.source_numbers().tolist() == [1, 0, 0, 1]
    assert [row.input_ids.tolist() for row in rows[1:3]] == [[2, 2], [2, 2]]
    assert len(chosen()) == 0 and chosen().lengths.tolist() == []
    with pytest.raises(IndexError):
        rows[4]


def test_the_fingerprint_sees_rows_and_their_order() -> None:
    prints = [chosen(*order).fingerprint for order in ((0, 1, 2), (0, 2, 1), (0, 1), (0, 1, 2, 2))]
    assert len(set(prints)) == 4
    assert chosen(0, 1, 2).fingerprint == prints[0]
    same_rows_elsewhere = RowSelection([*selection([[1], [2, 2], [3, 3, 3]]).sources], np.arange(3))
    assert same_rows_elsewhere.fingerprint == prints[0]
