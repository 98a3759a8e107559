"""From recipe to rows: limits, held-out rows, mixtures, the report."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.chat_tokenizers import FAMILIES, byte_level_tokenizer

from hf_align.config import DataConfig, DatasetConfig
from hf_align.data import PreparedData, prepare_datasets
from hf_align.data.row_selection import RowSelection
from hf_align.errors import UserError
from hf_align.types import TokenizedRow

TOKENIZER = byte_level_tokenizer(FAMILIES["chatml"][0])


def _pairs(*numbers: int) -> list[dict[str, str]]:
    return [{"prompt": f"{number}?", "completion": f" {number}!"} for number in numbers]


def _write(path: Path, rows: list[Any]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def _prepare(*paths: str, seed: int = 0, weights: tuple[float, ...] = (), **options: Any) -> PreparedData:
    weights = weights or (1.0,) * len(paths)
    datasets = [DatasetConfig(path=path, weight=weight) for path, weight in zip(paths, weights, strict=True)]
    return prepare_datasets(DataConfig(datasets=datasets, **options), TOKENIZER, seed=seed)


def _train(prepared: PreparedData) -> list[TokenizedRow]:
    assert isinstance(prepared.train, RowSelection)
    return list(prepared.train)


def _lines(rows: Iterable[TokenizedRow]) -> list[int]:
    """The line in its file from which each row came."""
    return [int(row.source.rpartition(":")[2]) for row in rows]


def test_rows_keep_their_order_place_and_types(tmp_path: Path) -> None:
    path = _write(tmp_path / "x.jsonl", _pairs(1, 2, 3))
    prepared = _prepare(path)
    assert [row.source for row in _train(prepared)] == [f"{path}:{line}" for line in (1, 2, 3)]
    row = _train(prepared)[0]
    assert (row.input_ids.dtype, row.target_mask.dtype) == (np.int32, np.bool_)
    assert TOKENIZER.decode(row.input_ids) == "1? 1!</s>"
    assert TOKENIZER.decode(row.input_ids[row.target_mask]) == " 1!</s>"
    assert (len(prepared.eval), list(prepared.eval), list(prepared.eval_examples)) == (0, [], [])


def test_overlong_rows_are_an_error_that_says_what_to_set(tmp_path: Path) -> None:
    # Each digit is a token of its own here, so the lengths are 6 and 304 with EOS.
    one, two = _write(tmp_path / "1.jsonl", _pairs(1, 2)), _write(tmp_path / "2.jsonl", [{"text": "1" * 303}])
    message = (
        rf"max_length = 100 tokens \({re.escape(two)}: 1 of 1 rows\)\. The longest has 304 tokens, "
        rf"at {re.escape(two)}:1\. Set `max_length: 320`"
    )
    with pytest.raises(UserError, match=message):
        _prepare(one, two, max_length=100)
    assert len(_train(_prepare(one, two, max_length=320))) == 3


def test_overlong_rows_dropped(tmp_path: Path) -> None:
    path = _write(tmp_path / "x.jsonl", [{"text": "1" * n} for n in (3, 50, 4)])
    prepared = _prepare(path, max_length=10, overlong="drop")
    assert _lines(_train(prepared)) == [1, 3]
    source = prepared.report.to_dict()["sources"][0]
    assert (source["read"], source["kept"], source["overlong"], source["dropped"]) == (3, 2, 1, 1)
    assert source["lengths"]["max"] == 51
    with pytest.raises(UserError, match=r"none of its 3 rows can be used.*3 dropped"):
        _prepare(path, max_length=2, overlong="drop")


def test_overlong_rows_truncated_without_an_invented_eos(tmp_path: Path) -> None:
    rows = [{"prompt": "98", "completion": "7698769"}, {"prompt": "1" * 20, "completion": "2"}]
    path = _write(tmp_path / "x.jsonl", rows)
    prepared = _prepare(path, max_length=5, overlong="truncate", max_untrained_share=0.5)
    (row,) = _train(prepared)
    assert TOKENIZER.decode(row.input_ids) == "98769"
    assert TOKENIZER.decode(row.input_ids[row.target_mask]) == "769"
    source = prepared.report.to_dict()["sources"][0]
    assert (source["overlong"], source["truncated"], source["no_target"], source["kept"]) == (2, 1, 1, 1)
    assert source["unanswered"] == [f"{path}:2: its targets begin after token 5"]
    with pytest.raises(
        UserError, match="1 of 2 rows have no token to train on, more than max_untrained_share"
    ):
        _prepare(path, max_length=5, overlong="truncate")


def test_malformed_rows_are_counted_up_to_a_share(tmp_path: Path) -> None:
    rows: list[Any] = [*_pairs(*range(98)), {"prompt": "a", "completion": ""}, 7]
    path = _write(tmp_path / "x.jsonl", rows)
    prepared = _prepare(path, max_malformed_share=0.02)
    source = prepared.report.to_dict()["sources"][0]
    assert (source["read"], source["kept"], source["malformed"]) == (100, 98, 2)
    assert source["problems"] == [
        f"{path}:99: empty completion",
        f"{path}:100: expected an object with named columns, found a number",
    ]
    with pytest.raises(
        UserError, match=rf"2 of 100 rows are malformed(.|\n)*{re.escape(path)}:99: empty completion"
    ):
        _prepare(path)


def test_a_source_without_usable_rows_is_refused_even_if_every_share_is_allowed(tmp_path: Path) -> None:
    path = _write(tmp_path / "x.jsonl", [{"text": ""}, {"text": " "}])
    with pytest.raises(UserError, match="none of its 2 rows can be used: 2 malformed"):
        _prepare(path, max_malformed_share=1.0)


def test_held_out_rows_are_disjoint_seeded_and_complete(tmp_path: Path) -> None:
    path = _write(tmp_path / "x.jsonl", _pairs(*range(40)))
    prepared = _prepare(path, eval_split_size=0.25, seed=3)
    held_out, train = _lines(prepared.eval), _lines(_train(prepared))
    assert len(held_out) == 10
    assert sorted(held_out + train) == list(range(1, 41))
    assert [example.source for example in prepared.eval_examples] == [row.source for row in prepared.eval]
    assert _lines(_prepare(path, eval_split_size=0.25, seed=3).eval) == held_out
    assert _lines(_prepare(path, eval_split_size=0.25, seed=4).eval) != held_out
    assert len(_prepare(path, eval_split_size=7.0).eval) == 7
    assert len(_prepare(path, eval_split_size=0.001).eval) == 1


def test_evaluation_sets_join_held_out_rows(tmp_path: Path) -> None:
    train, evaluation = (
        _write(tmp_path / "t.jsonl", _pairs(1, 2, 3)),
        _write(tmp_path / "e.jsonl", _pairs(8, 9)),
    )
    prepared = _prepare(train, eval_datasets=[DatasetConfig(path=evaluation)], eval_split_size=1.0)
    assert [row.source.startswith(train) for row in prepared.eval] == [True, False, False]
    assert (prepared.report.held_out, prepared.report.eval_rows, prepared.report.train_rows) == (1, 3, 2)
    assert [source.role for source in prepared.report.sources] == ["train", "eval"]


def test_a_split_that_leaves_nothing_to_train_on_is_refused(tmp_path: Path) -> None:
    path, other = _write(tmp_path / "x.jsonl", _pairs(1, 2)), _write(tmp_path / "y.jsonl", _pairs(3))
    for size in (2.0, 3.0, 0.9):
        with pytest.raises(UserError, match="leave none to train on"):
            _prepare(path, eval_split_size=size)
    with pytest.raises(UserError, match="leaves none of it to train on"):
        _prepare(path, other, eval_split_size=2.0, seed=next(s for s in range(50) if _takes_other(s)))


def _takes_other(seed: int) -> bool:
    return 2 in np.random.default_rng(seed).permutation(3)[:2]


def test_copies_are_counted(tmp_path: Path) -> None:
    train = _write(tmp_path / "t.jsonl", _pairs(1, 2, 2, 2, 3))
    evaluation = _write(tmp_path / "e.jsonl", _pairs(2, 3, 4))
    prepared = _prepare(train, eval_datasets=[DatasetConfig(path=evaluation)])
    assert prepared.report.sources[0].duplicates == 2
    assert prepared.report.leaked == 2
    assert "2 evaluation rows are exact copies of training rows" in prepared.report.summary()
    # Held-out rows leave with their place in the training data, their copies stay.
    assert _prepare(_write(tmp_path / "u.jsonl", _pairs(1, 1)), eval_split_size=1.0).report.leaked == 1


def test_small_sources_are_repeated(tmp_path: Path) -> None:
    large, small = (
        _write(tmp_path / "l.jsonl", _pairs(*range(40))),
        _write(tmp_path / "s.jsonl", _pairs(91, 92)),
    )
    assert len(_train(_prepare(large, small))) == 42
    prepared = _prepare(large, small, weights=(1, 5))
    rows = _train(prepared)
    assert prepared.report.mixture == [40, 10]
    assert sum(row.source.startswith(small) for row in rows) == 10
    assert len({row.source for row in rows}) == 42
    # Square roots of 40 and 2: the small source gets 40 * sqrt(2 / 40) = 8.94 rows.
    assert _prepare(large, small, mixture_exponent=0.5).report.mixture == [40, 9]


def test_system_prompt_and_train_on_reach_the_rows(tmp_path: Path) -> None:
    turns = [
        {"role": role, "content": text} for role, text in zip(("user", "assistant") * 2, "abcd", strict=True)
    ]
    path = _write(tmp_path / "x.jsonl", [{"messages": turns}])
    row = _train(_prepare(path, system_prompt="Be brief.", train_on="last"))[0]
    assert TOKENIZER.decode(row.input_ids).startswith("<|im_start|>system\nBe brief.<|im_end|>\n")
    assert TOKENIZER.decode(row.input_ids[row.target_mask]) == "d<|im_end|>"
    with pytest.raises(UserError, match="system_prompt"):
        _prepare(path, system_prompt="\ud800")


def test_the_fingerprint_changes_with_the_rows_only(tmp_path: Path) -> None:
    path = _write(tmp_path / "x.jsonl", _pairs(*range(10)))
    prints = [
        _prepare(path, **options).report.fingerprint
        for options in ({}, {}, {"add_eos": False}, {"train_on": "all"}, {"eval_split_size": 2.0})
    ]
    assert prints[0] == prints[1]
    assert len(set(prints)) == 4


def test_columns_and_formats_come_from_the_recipe(tmp_path: Path) -> None:
    path = _write(tmp_path / "x.jsonl", [{"q": "1", "a": "2"}])
    dataset = DatasetConfig(path=path, columns={"prompt": "q", "completion": "a"})
    prepared = prepare_datasets(DataConfig(datasets=[dataset]), TOKENIZER, seed=0)
    assert prepared.report.sources[0].format == "prompt_completion"
    wrong = DatasetConfig(path=path, format="text")
    with pytest.raises(UserError, match=rf"{re.escape(path)}: the format text needs the column 'text'"):
        prepare_datasets(DataConfig(datasets=[wrong]), TOKENIZER, seed=0)


def test_a_progress_bar_appears_for_thousands_of_rows_on_the_main_process(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.txt"
    path.write_text("1\n" * 4001)
    _prepare(str(path))
    assert "tokenising" in capsys.readouterr().err
    monkeypatch.setenv("RANK", "1")
    _prepare(str(path))
    monkeypatch.setenv("RANK", "0")
    path.write_text("1\n" * 4000)
    _prepare(str(path))
    assert capsys.readouterr().err == ""
