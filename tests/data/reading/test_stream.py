"""Streams of rows: order, passes, limits, counts."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.chat_tokenizers import byte_level_tokenizer

from hf_align.config import DataConfig, DatasetConfig
from hf_align.data import PreparedData, prepare_datasets
from hf_align.data.reading.stream import RowStream, shuffled
from hf_align.errors import UserError
from hf_align.types import TokenizedRow

TOKENIZER = byte_level_tokenizer()


def _write(path: Path, rows: list[Any]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def _texts(count: int) -> list[dict[str, str]]:
    return [{"text": f"row {number}"} for number in range(count)]


def _prepare(*datasets: DatasetConfig, seed: int = 0, **options: Any) -> PreparedData:
    data = DataConfig(datasets=list(datasets), streaming=True, **options)
    return prepare_datasets(data, TOKENIZER, seed=seed)


def _sources(rows: Any) -> list[str]:
    return [row.source for row in rows]


def _stream(prepared: PreparedData) -> RowStream:
    assert isinstance(prepared.train, RowStream)
    return prepared.train


def test_a_pass_over_one_source_has_each_row_once_in_a_new_order_each_epoch(tmp_path: Path) -> None:
    path = _write(tmp_path / "x.jsonl", _texts(300))
    stream = _stream(_prepare(DatasetConfig(path=path), shuffle_buffer_size=50))
    first = _sources(stream)
    assert sorted(first) == sorted(f"{path}:{line}" for line in range(1, 301))
    assert first != sorted(first, key=lambda place: int(place.rpartition(":")[2]))
    assert _sources(stream) == first
    stream.set_epoch(1)
    assert _sources(stream) != first
    stream.set_epoch(0)
    assert _sources(stream) == first
    other_seed = _stream(_prepare(DatasetConfig(path=path), shuffle_buffer_size=50, seed=1))
    assert _sources(other_seed) != first


def test_a_buffer_of_one_keeps_the_order(tmp_path: Path) -> None:
    path = _write(tmp_path / "x.jsonl", _texts(5))
    stream = _stream(_prepare(DatasetConfig(path=path), shuffle_buffer_size=1))
    assert _sources(stream) == [f"{path}:{line}" for line in range(1, 6)]


def test_shuffling_moves_rows_no_further_ahead_than_the_buffer() -> None:
    rows = [TokenizedRow(np.array([i]), np.array([False]), str(i)) for i in range(100)]
    order = [int(row.source) for row in shuffled(rows, 10, np.random.default_rng(0))]
    assert sorted(order) == list(range(100))
    assert all(number <= position + 10 for position, number in enumerate(order))


def test_sources_are_interleaved_by_weight_until_each_has_ended(tmp_path: Path) -> None:
    large = DatasetConfig(path=_write(tmp_path / "l.jsonl", _texts(600)))
    small = DatasetConfig(path=_write(tmp_path / "s.jsonl", _texts(20)), weight=0.5)
    prepared = _prepare(large, small)
    counts = Counter(_sources(_stream(prepared)))
    from_large = [count for place, count in counts.items() if place.startswith(large.path)]
    from_small = [count for place, count in counts.items() if place.startswith(small.path)]
    assert from_large == [1] * 600
    assert len(from_small) == 20
    # One row in three comes from the small source: 300 expected beside 600, standard deviation 17.
    assert 220 < sum(from_small) < 380
    assert max(from_small) - min(from_small) <= 1
    # Its report counts one pass, not the repeats.
    assert [source.read for source in prepared.report.sources] == [600, 20]


def test_reading_is_lazy(tmp_path: Path) -> None:
    # The broken end of this file lies beyond what the first rows need.
    path = tmp_path / "x.json"
    path.write_text("[" + ",".join(json.dumps(row) for row in _texts(2000)) + ", broken")
    rows = iter(_stream(_prepare(DatasetConfig(path=str(path)), shuffle_buffer_size=10)))
    for _ in range(100):
        next(rows)
    with pytest.raises(UserError, match="broken JSON"):
        list(rows)


def test_the_first_rows_of_each_source_are_held_out(tmp_path: Path) -> None:
    one = DatasetConfig(path=_write(tmp_path / "1.jsonl", _texts(50)))
    two = DatasetConfig(path=_write(tmp_path / "2.jsonl", _texts(50)), weight=3.0)
    prepared = _prepare(one, two, eval_split_size=8.0)
    held_out = _sources(prepared.eval)
    expected = [f"{one.path}:{line}" for line in (1, 2)] + [f"{two.path}:{line}" for line in range(1, 7)]
    assert held_out == expected == [example.source for example in prepared.eval_examples]
    trained = set(_sources(_stream(prepared)))
    assert trained.isdisjoint(held_out)
    assert len(trained) == 92
    assert (prepared.report.held_out, prepared.report.train_rows) == (8, None)
    with pytest.raises(UserError, match="fewer than the 60 usable rows"):
        _prepare(one, eval_split_size=60.0)
    with pytest.raises(UserError, match="none of its 50 rows can be used for training"):
        list(_stream(_prepare(one, eval_split_size=50.0)))


def test_malformed_rows_are_counted_live_and_end_the_stream_above_the_limit(tmp_path: Path) -> None:
    rows: list[Any] = _texts(1000)
    rows[3] = rows[700] = {"text": 7}
    path = _write(tmp_path / "x.jsonl", rows)
    prepared = _prepare(DatasetConfig(path=path))
    source = prepared.report.sources[0]
    for _ in range(2):
        assert len(list(_stream(prepared))) == 998
        assert (source.read, source.kept, source.malformed) == (1000, 998, 2)
    assert source.problems[0] == f"{path}:4: text: expected a string, found a number"
    rows[300:400] = [{"text": ""}] * 100
    _write(tmp_path / "x.jsonl", rows)
    with pytest.raises(UserError, match="rows are malformed, more than max_malformed_share"):
        list(_stream(_prepare(DatasetConfig(path=path), shuffle_buffer_size=1)))


def test_a_few_malformed_rows_at_the_start_do_not_end_a_long_stream(tmp_path: Path) -> None:
    rows: list[Any] = [{"text": "a"}, {"text": ""}, *_texts(300)]
    assert len(list(_stream(_prepare(DatasetConfig(path=_write(tmp_path / "x.jsonl", rows)))))) == 301
    short = _write(tmp_path / "y.jsonl", rows[:50])
    with pytest.raises(UserError, match="1 of 50 rows are malformed"):
        list(_stream(_prepare(DatasetConfig(path=short))))


def test_an_overlong_row_ends_the_stream_unless_told_otherwise(tmp_path: Path) -> None:
    path = _write(tmp_path / "x.jsonl", [*_texts(3), {"text": "1" * 99}, *_texts(3)])
    with pytest.raises(UserError, match="The longest has 100 tokens"):
        list(_stream(_prepare(DatasetConfig(path=path), max_length=50)))
    prepared = _prepare(DatasetConfig(path=path), max_length=50, overlong="drop")
    assert len(list(_stream(prepared))) == 6
    assert prepared.report.sources[0].dropped == 1


def test_evaluation_sets_are_read_whole(tmp_path: Path) -> None:
    train, evaluation = (_write(tmp_path / f"{name}.jsonl", _texts(4)) for name in "te")
    prepared = _prepare(DatasetConfig(path=train), eval_datasets=[DatasetConfig(path=evaluation)])
    assert _sources(prepared.eval) == [f"{evaluation}:{line}" for line in range(1, 5)]
    assert "a stream of training rows, 4 evaluation rows" in prepared.report.summary()


def test_duplicates_are_not_looked_for(tmp_path: Path) -> None:
    prepared = _prepare(DatasetConfig(path=_write(tmp_path / "a.jsonl", _texts(3) * 2)))
    assert len(list(prepared.train)) == 6
    assert prepared.report.sources[0].duplicates is None
    assert prepared.report.to_dict()["sources"][0]["duplicates"] is None
