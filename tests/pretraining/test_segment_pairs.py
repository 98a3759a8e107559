"""Pairs as rows: epochs follow each other through the draws without a gap or a repeat."""

from __future__ import annotations

import numpy as np
import pytest

from hf_align.errors import UserError
from hf_align.pretraining.collators import sentence_pairs
from hf_align.pretraining.segment_pairs import PairForm, PairRows, stream_pairs
from hf_align.types import TokenizedRow

FULL_STOP = 3


def documents(count: int, sentences: int = 9) -> list[TokenizedRow]:
    rng = np.random.default_rng(5)
    made = []
    for _ in range(count):
        ids = [0]
        for _ in range(sentences):
            ids += [*rng.integers(10, 50, rng.integers(2, 9)).tolist(), FULL_STOP]
        made.append(TokenizedRow(np.array(ids, np.int32), np.ones(len(ids), bool)))
    return made


def form(kind: str = "nsp", length: int = 32) -> PairForm:
    ends = np.arange(60) == FULL_STOP
    return PairForm(length=length, kind=kind, seed=4, opening=1, ends_sentence=ends)


def test_sentences_are_cut_behind_full_stops():
    row = TokenizedRow(np.array([0, 11, 12, 3, 13, 3, 14], np.int32), np.ones(7, bool))
    assert form().sentences(row) == [[11, 12, 3], [13, 3], [14]]


@pytest.mark.parametrize("kind", ["nsp", "sop"])
def test_epochs_are_consecutive_parts_of_the_draws(kind):
    source = documents(12)
    rows = PairRows(source, form(kind))
    split = [form(kind).sentences(document) for document in source]
    drawn = [
        pair
        for draw in range(6)
        for pair in sentence_pairs(split, max_length=32, kind=kind, seed=4, epoch=draw)
    ]
    for epoch in (0, 1, 2, 3):
        rows.set_epoch(epoch)
        part = drawn[epoch * len(rows) : (epoch + 1) * len(rows)]
        assert [row.example for row in rows] == part
    rows.set_epoch(1)
    assert [row.example for row in rows] == drawn[len(rows) : 2 * len(rows)]
    assert all(len(row) == len(row.example["first"]) + len(row.example["second"]) + 3 <= 32 for row in rows)


def test_a_stream_gives_pairs_of_its_buffers():
    streamed = list(stream_pairs(documents(10), form(), 0, buffer_size=4))
    again = list(stream_pairs(documents(10), form(), 0, buffer_size=4))
    later = list(stream_pairs(documents(10), form(), 1, buffer_size=4))
    assert [row.example for row in streamed] == [row.example for row in again]
    assert [row.example for row in streamed] != [row.example for row in later]
    numbers = [(row.example["index"], row.example["epoch"]) for row in [*streamed, *later]]
    assert len(set(numbers)) == len(numbers)


def test_a_corpus_without_pairs_is_refused():
    with pytest.raises(UserError, match="two sentences"):
        PairRows(documents(3, sentences=1), form("sop"))
    with pytest.raises(UserError, match=r"all pairs are random.*text_unit: paragraph"):
        PairRows(documents(3, sentences=1), form("nsp"))


def test_lone_sentences_are_warned_of(caplog):
    PairRows([*documents(2), *documents(3, sentences=1)], form("nsp"))
    assert "3 of 5 documents have one sentence" in caplog.text
    caplog.clear()
    PairRows([*documents(3), *documents(3, sentences=1)], form("nsp"))
    assert not caplog.records
