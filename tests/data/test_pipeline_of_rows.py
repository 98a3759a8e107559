"""Rows of one source: converted, tokenised, judged and counted, each of them once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from helpers.tiny_checkpoint import tiny_tokenizer

from hf_align.config import DataConfig, DatasetConfig
from hf_align.data import pipeline
from hf_align.data.chat.rendering import make_encoder
from hf_align.data.pipeline import DataSource, check_overlong, check_shares, kept_rows
from hf_align.data.report import SourceReport
from hf_align.errors import UserError

ROWS: list[Any] = [
    {"prompt": "a", "completion": "bc"},
    {"prompt": "a", "completion": ""},
    {"prompt": "a" * 40, "completion": "b"},
    {"prompt": "a", "completion": "b" * 40},
]


def source(folder: Path, rows: list[Any] = ROWS, **options: Any) -> DataSource:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = DataConfig(datasets=str(path), max_length=16, **options)
    encoder = make_encoder(tiny_tokenizer(), train_on="assistant")
    return DataSource(DatasetConfig(str(path)), data, encoder, SourceReport("rows"))


@pytest.mark.parametrize(
    ("overlong", "kept", "counts"),
    [
        ("drop", 1, {"dropped": 2, "truncated": 0, "no_target": 0}),
        ("truncate", 2, {"dropped": 0, "truncated": 1, "no_target": 1}),
    ],
)
def test_every_row_is_counted_once(tmp_path: Path, overlong: str, kept: int, counts: dict[str, int]) -> None:
    given = source(tmp_path, overlong=overlong)
    found = list(kept_rows(given))
    report = given.report
    assert len(found) == report.kept == kept and report.read == 4 and report.malformed == 1
    assert {name: getattr(report, name) for name in counts} == counts
    assert report.read == report.kept + report.malformed + report.dropped + report.no_target
    assert report.overlong == 2 and report.longest > 40 and report.longest_place.endswith(":3")
    assert report.tokens == sum(len(row) for row, _ in found) and max(len(row) for row, _ in found) <= 16


def test_chunks_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = [row.input_ids.tolist() for row, _ in kept_rows(source(tmp_path, overlong="drop"))]
    monkeypatch.setattr(pipeline, "_ROWS_TOKENIZED_TOGETHER", 1)
    assert [row.input_ids.tolist() for row, _ in kept_rows(source(tmp_path, overlong="drop"))] == whole


def test_limits_name_the_first_rows_and_what_to_set(tmp_path: Path) -> None:
    given = source(tmp_path, overlong="truncate")
    list(kept_rows(given))
    with pytest.raises(UserError, match=r"1 of 4 rows are malformed, more than max_malformed_share = 0.01"):
        check_shares(given.report, given.data)
    loose = DataConfig(datasets="x", max_malformed_share=0.5)
    with pytest.raises(UserError, match=r"its targets begin after token 16\nRaise `max_length`"):
        check_shares(given.report, loose)
    check_overlong([given.report], given.data)
    with pytest.raises(UserError, match=r"rows.jsonl:3. Set `max_length: 64`|Set `max_length: \d+` to keep"):
        check_overlong([given.report], DataConfig(datasets="x", max_length=16))


def test_a_row_of_too_much_text_is_never_tokenised(tmp_path: Path) -> None:
    rows = [*ROWS[:1], {"prompt": "a", "completion": "b" * 500}]
    given = source(tmp_path, rows, overlong="drop", max_row_characters=200)
    assert len(list(kept_rows(given))) == 1
    report = given.report
    assert report.malformed_kinds == {"too many characters": 1} and report.overlong == 0
    assert "rows.jsonl:2: has 501 characters, more than max_row_characters = 200 allows" in report.problems[0]
