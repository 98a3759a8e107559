"""Examples to flat arrays and back to padded ones; which random numbers an example gets."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_align.errors import UserError
from hf_align.pretraining.collators.rows import (
    count_by_row,
    padded,
    read_rows,
    real_tokens,
    starts_of,
    width_of,
)


def read(examples, seed=0, epoch=0):
    return read_rows(examples, seed=seed, epoch=epoch)


def test_every_form_of_an_example_is_the_same() -> None:
    forms = [
        [[1, 2], [3]],
        [np.array([1, 2]), torch.tensor([3])],
        [{"input_ids": (1, 2)}, SimpleNamespace(input_ids=[3])],
    ]
    for examples in forms:
        rows = read(examples)
        assert rows.ids.tolist() == [1, 2, 3] and rows.lengths.tolist() == [2, 1]
        assert rows.starts.tolist() == [0, 2]
        assert rows.row_of.tolist() == [0, 0, 1]


@given(
    st.lists(st.lists(st.integers(0, 99), min_size=1, max_size=9), min_size=1, max_size=6), st.integers(1, 8)
)
@settings(max_examples=40, deadline=None)
def test_padding_loses_nothing(ids, multiple) -> None:
    rows = read(ids)
    width = width_of(rows.lengths, multiple)
    assert width % multiple == 0 and 0 <= width - max(map(len, ids)) < multiple
    real = real_tokens(rows.lengths, width)
    laid_out = padded(rows.ids, real, -1)
    assert [row[row >= 0].tolist() for row in laid_out] == ids
    even = rows.ids % 2 == 0
    assert count_by_row(even, rows.lengths).tolist() == [sum(id % 2 == 0 for id in row) for row in ids]


def test_the_noise_follows_index_and_epoch_or_the_ids() -> None:
    def numbers(examples, **options):
        return read(examples, **options).draws.uniforms(0, 3).tolist()

    example = {"input_ids": [1, 2], "index": 5}
    assert numbers([example]) == numbers([{"input_ids": [9], "index": 5}])
    assert numbers([example]) != numbers([{**example, "index": 6}])
    assert numbers([example], epoch=1) == numbers([{**example, "epoch": 1}])
    assert numbers([example], seed=1) != numbers([example])
    assert numbers([[1, 2], [3]])[0] == numbers([[1, 2]])[0] != numbers([[2, 1]])[0]


@pytest.mark.parametrize(
    ("examples", "words"),
    [
        ([], "called with no examples"),
        ([[1], []], "example 1 of a batch has no tokens"),
        ([{"input_ids": [1], "index": 0}, {"input_ids": [1]}], "expected all or none"),
        ([{"text": "x"}], "has no 'input_ids'.*remove_unused_columns=False"),
    ],
)
def test_mistakes(examples, words) -> None:
    with pytest.raises(UserError, match=words):
        read(examples)


def test_where_pieces_begin() -> None:
    assert starts_of(np.array([3, 0, 2])).tolist() == [0, 3, 3]
