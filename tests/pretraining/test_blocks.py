"""Documents to blocks: nothing lost, nothing twice, the same by number as from a stream."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.token_documents import selection
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_align.errors import UserError
from hf_align.pretraining.blocks import BlockForm, BlockRows, stream_blocks


def test_packed_blocks_of_two_documents_by_hand():
    form = BlockForm(length=5, head=(1,), tail=(2,), opening=(1,), separator=2)
    rows = BlockRows(selection([[1, 10, 11], [1, 20, 21, 22, 23]]), form)
    # The line is 10 11 2 20 21 22 23 2, cut into threes.
    assert [row.example["input_ids"].tolist() for row in rows] == [
        [1, 10, 11, 2, 2],
        [1, 20, 21, 22, 2],
        [1, 23, 2, 2],
    ]
    assert [row.example["segment_lengths"] for row in rows] == [[5], [5], [4]]
    assert [len(row) for row in rows] == [5, 5, 4]


def test_blocks_of_single_documents_by_hand():
    rows = BlockRows(selection([[10, 11, 12], [20]]), BlockForm(length=3, separator=9, packing=False))
    assert [row.example["input_ids"].tolist() for row in rows] == [[10, 11, 12], [9], [20, 9]]


@given(
    documents=st.lists(st.lists(st.integers(10, 99), min_size=1, max_size=12), min_size=1, max_size=8),
    length=st.integers(4, 9),
    separator=st.sampled_from([None, 7]),
    packing=st.booleans(),
)
@settings(deadline=None, max_examples=60)
def test_blocks_hold_every_token_once_and_a_stream_gives_the_same(documents, length, separator, packing):
    form = BlockForm(length=length, head=(1,), tail=(2,), separator=separator, packing=packing)
    chosen = selection(documents)
    rows = BlockRows(chosen, form)
    end = [] if separator is None else [separator]
    line = [id for document in documents for id in [*document, *end]]
    blocks = [row.example["input_ids"].tolist() for row in rows]
    assert [id for block in blocks for id in block[1:-1]] == line
    assert all(len(block) <= length for block in blocks)
    assert all(sum(row.example["segment_lengths"]) == len(row) for row in rows)
    if packing:
        assert all(len(block) == length for block in blocks[:-1])
    rows.set_epoch(3)
    streamed = list(stream_blocks(list(chosen), form, epoch=3))
    assert len(streamed) == len(rows)
    for one, other in zip(rows, streamed, strict=True):
        np.testing.assert_array_equal(one.example["input_ids"], other.example["input_ids"])
        for key in ("segment_lengths", "index", "epoch"):
            assert one.example[key] == other.example[key]


def test_a_block_with_no_room_for_text_is_refused():
    with pytest.raises(UserError, match="block_length: found 3"):
        BlockRows(selection([[5, 6]]), BlockForm(length=3, head=(1,), tail=(2,)))
