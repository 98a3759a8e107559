"""From recipe to compared rows: limits, kinds of malformed rows, held-out rows, cache, workers, streams."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.chat_tokenizers import FAMILIES, byte_level_tokenizer

from hf_align.config import DataConfig, DatasetConfig
from hf_align.data import PreparedData, best_answer_example, prepare_datasets, render_prompt
from hf_align.data.report import SourceReport
from hf_align.data.row_selection import RowSelection
from hf_align.data.store import datasets as stored
from hf_align.errors import UserError
from hf_align.types import Comparison, ComparisonRow, Message, TokenizedRow

TOKENIZER = byte_level_tokenizer(FAMILIES["chatml"][0])


def _pairs(*numbers: int) -> list[dict[str, Any]]:
    return [{"prompt": f"{n}?", "chosen": f" {n + 1}!", "rejected": f" {n + 2}..."} for n in numbers]


def _write(path: Path, rows: list[Any]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def _prepare(*paths: str, seed: int = 0, **options: Any) -> PreparedData:
    return prepare_datasets(DataConfig(datasets=[*paths], **options), TOKENIZER, seed=seed, comparisons=True)


def _train(prepared: PreparedData) -> list[ComparisonRow]:
    rows = list(prepared.train)
    assert all(isinstance(row, ComparisonRow) for row in rows)
    return rows  # type: ignore[return-value]


def _texts(row: ComparisonRow) -> list[str]:
    return [TOKENIZER.decode(row.sequence(k).input_ids) for k in range(len(row.branches))]


def test_pairs_become_trees(tmp_path: Path) -> None:
    path = _write(tmp_path / "x.jsonl", _pairs(1, 2))
    prepared = _prepare(path)
    first, second = _train(prepared)
    assert _texts(first) == ["1? 2!</s>", "1? 3...</s>"]
    assert [row.source for row in (first, second)] == [f"{path}:1", f"{path}:2"]
    assert TOKENIZER.decode(first.branches[1].input_ids[first.branches[1].target_mask]) == " 3...</s>"
    source = prepared.report.sources[0]
    assert (source.format, source.kept, source.tokens) == ("preference", 2, len(first) + len(second))
    assert source.target_tokens == first.target_tokens + second.target_tokens
    # The length of a row is that of its longest sequence.
    assert max(source.lengths) == max(len(first.sequence(k)) for k in (0, 1))


def test_kinds_of_malformed_rows_are_counted_shown_and_limited(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    bad: list[Any] = [
        {"prompt": "q", "chosen": "a", "rejected": "a"},
        {"prompt": "q", "chosen": "b", "rejected": "b"},
        {"prompt": "q", "chosen": "a", "rejected": " "},
        {"chosen": turns, "rejected": [*turns, *turns]},
        7,
    ]
    path = _write(tmp_path / "x.jsonl", [*_pairs(*range(15)), *bad])
    prepared = _prepare(path, max_malformed_share=0.25)
    kinds = {"identical answers": 2, "empty answer": 1, "prompt not shared": 1}
    report = prepared.report.to_dict()
    assert (report["sources"][0]["malformed"], report["sources"][0]["malformed_kinds"]) == (5, kinds)
    assert report["total"]["malformed_kinds"] == kinds
    shown = (
        f"{path}: 5 malformed (2 identical answers, 1 empty answer, 1 prompt not shared, 1 other), the first:"
    )
    assert shown in prepared.report.summary()
    assert f"{path}:16: answer 2 is the same" in prepared.report.summary()
    with pytest.raises(
        UserError, match=r"5 of 20 rows are malformed \(2 identical answers, 1 empty answer, 1 p"
    ):
        _prepare(path)


def test_kinds_of_several_reports_add_up() -> None:
    one, two = SourceReport("a"), SourceReport("a")
    one.add_malformed("a:1", "x", "tied")
    two.add_malformed("a:2", "x", "tied")
    two.add_malformed("a:3", "x", "empty")
    two.add_malformed("a:4", "x")
    one.add(two)
    assert (one.malformed, one.malformed_kinds) == (4, {"tied": 2, "empty": 1})
    assert two.malformed_kinds == {"tied": 1, "empty": 1}
    one.clear()
    assert one.malformed_kinds == {}


def test_length_is_that_of_the_longest_sequence(tmp_path: Path) -> None:
    # A digit is a token: prompts of 2 tokens and answers of 3, 40 with EOS.
    rows = [{"prompt": "1?", "chosen": "23", "rejected": "4" * 39}, *_pairs(1)]
    path = _write(tmp_path / "x.jsonl", rows)
    with pytest.raises(UserError, match=rf"The longest has 42 tokens, at {path}:1\."):
        _prepare(path, max_length=41)
    assert len(_train(_prepare(path, max_length=42))) == 2
    dropped = _prepare(path, max_length=41, overlong="drop")
    assert (len(dropped.train), dropped.report.sources[0].dropped) == (1, 1)


def test_truncation_cuts_the_ends_of_branches(tmp_path: Path) -> None:
    rows = [
        {"prompt": "1?", "chosen": "23", "rejected": "4" * 39},
        {"prompt": "1" * 12, "chosen": "2", "rejected": "3"},
        {"prompt": "1?", "chosen": "2" * 20, "rejected": "2" * 30},
    ]
    path = _write(tmp_path / "x.jsonl", rows)
    prepared = _prepare(path, max_length=10, overlong="truncate", max_untrained_share=0.7)
    (row,) = _train(prepared)
    assert _texts(row) == ["1?23</s>", "1?44444444"]
    source = prepared.report.sources[0]
    assert (source.overlong, source.truncated, source.no_target, source.kept) == (3, 1, 2, 1)
    assert source.unanswered == [
        f"{path}:2: no token of answer 1 is a target up to token 10",
        f"{path}:3: answers that do not tie are the same up to token 10",
    ]


def test_evaluation_examples_are_comparisons(tmp_path: Path) -> None:
    path = _write(
        tmp_path / "x.jsonl", [{"instruction": "1?", "chosen": "2", "rejected": "3", "margin": 2}] * 1
    )
    held = _write(tmp_path / "e.jsonl", [{"prompt": "5?", "answers": ["6", "7", "8"], "scores": [0, 1, 1]}])
    prepared = _prepare(path, eval_datasets=[held], system_prompt="s")
    (example,) = prepared.eval_examples
    assert example == Comparison(f"{held}:1", "5?", ("6", "7", "8"), (0.0, 1.0, 1.0))
    assert render_prompt(TOKENIZER, best_answer_example(example)) == ("5?", "7")
    (row,) = prepared.eval
    assert isinstance(row, ComparisonRow)
    assert (row.scores.tolist(), row.margin) == ([0.0, 1.0, 1.0], None)
    (train,) = _train(prepared)
    assert TOKENIZER.decode(train.prefix).startswith("<|im_start|>system\ns<|im_end|>\n")
    assert train.margin == 2.0


def test_held_out_comparisons_keep_their_examples(tmp_path: Path) -> None:
    rows = [{"instruction": f"{n}?", "chosen": "2", "rejected": "3"} for n in "4567"]
    path = _write(tmp_path / "x.jsonl", rows)
    prepared = _prepare(path, eval_split_size=2.0)
    for example, row in zip(prepared.eval_examples, prepared.eval, strict=True):
        assert example.source == row.source
        assert isinstance(example, Comparison) and isinstance(row, ComparisonRow)
        assert example.prompt == (Message("user", f"{'4567'[int(row.source[-1]) - 1]}?"),)
    sources = sorted(row.source for row in [*prepared.train, *prepared.eval])
    assert sources == [f"{path}:{line}" for line in range(1, 5)]


def test_copies_and_fingerprints_of_comparisons(tmp_path: Path) -> None:
    rows = _pairs(1, 2, 2)
    path = _write(tmp_path / "x.jsonl", rows)
    swapped = [rows[0] | {"chosen": rows[0]["rejected"], "rejected": rows[0]["chosen"]}, *rows[1:]]
    prepared = _prepare(path, eval_datasets=[_write(tmp_path / "e.jsonl", _pairs(2, 3))])
    assert (prepared.report.sources[0].duplicates, prepared.report.leaked) == (1, 1)
    prints = {
        _prepare(_write(tmp_path / f"{number}.jsonl", variant)).train_fingerprint
        for number, variant in enumerate(
            [rows, swapped, [rows[0] | {"margin": 1}, *rows[1:]], [rows[1], rows[0], rows[2]]]
        )
    }
    assert len(prints) == 4
    assert prepared.train_fingerprint in prints


def test_stages_refuse_each_others_data(tmp_path: Path) -> None:
    pairs = _write(tmp_path / "p.jsonl", _pairs(1))
    texts = _write(tmp_path / "t.jsonl", [{"prompt": "a", "completion": "b"}])
    with pytest.raises(
        UserError, match=r"t.jsonl: the rows are in the format prompt_completion.*the stage sft"
    ):
        _prepare(texts)
    with pytest.raises(UserError, match=r"p.jsonl: the rows are in the format preference.*dpo and reward"):
        prepare_datasets(DataConfig(datasets=[pairs]), TOKENIZER, seed=0)
    with pytest.raises(UserError, match="train_on: found all"):
        _prepare(pairs, train_on="all")


def _content(prepared: PreparedData) -> Any:
    rows = [row for row in [*prepared.train, *prepared.eval] if isinstance(row, ComparisonRow)]
    ids = [[row.prefix.tolist(), *(branch.input_ids.tolist() for branch in row.branches)] for row in rows]
    beside = [(row.source, row.scores.tolist(), row.margin) for row in rows]
    return ids, beside, [*prepared.eval_examples], prepared.report.to_dict()


def _any_pair(number: int) -> Any:
    """Good rows, malformed ones of two kinds, and rows that do not convert."""
    if number % 7 == 3:
        return {"prompt": "q", "chosen": "a", "rejected": "a" if number % 2 else ""}
    if number % 13 == 5:
        return ["no object"]
    return _pairs(number % 30)[0] | {"margin": number / 3}


def test_large_sources_give_the_same_in_workers_and_from_the_cache(
    tmp_path: Path, everything_is_large: None, preparations: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _write(tmp_path / "a.jsonl", [_any_pair(number) for number in range(150)])
    options: dict[str, Any] = {"eval_split_size": 9.0, "max_malformed_share": 0.5}
    monkeypatch.setattr(stored, "SMALL_BYTES", 1 << 20)
    expected = _content(_prepare(path, **options))
    assert set(expected[3]["sources"][0]["malformed_kinds"]) == {"identical answers", "empty answer"}
    monkeypatch.setattr(stored, "SMALL_BYTES", 0)
    preparations.clear()
    for processes in (1, 2):
        prepared = _prepare(path, dataset_cache=False, dataset_num_proc=processes, **options)
        assert _content(prepared) == expected
    for _ in range(2):
        assert _content(_prepare(path, dataset_num_proc=1, **options)) == expected
    assert preparations == ["a.jsonl"] * 3


def test_the_cache_keeps_examples_and_comparisons_apart(
    tmp_path: Path, everything_is_large: None, preparations: list[str]
) -> None:
    rows = [row | {"completion": row["chosen"]} for row in _pairs(*range(20))]
    path = _write(tmp_path / "a.jsonl", rows)
    compared = _prepare(path)
    dataset = DatasetConfig(path=path, format="prompt_completion")
    plain = prepare_datasets(DataConfig(datasets=[dataset]), TOKENIZER, seed=0)
    assert isinstance(compared.train[0], ComparisonRow)  # type: ignore[index]
    assert isinstance(plain.train[0], TokenizedRow)  # type: ignore[index]
    assert preparations == ["a.jsonl"] * 2


def test_streams_of_comparisons(tmp_path: Path) -> None:
    path = _write(
        tmp_path / "x.jsonl", [*_pairs(*range(12)), {"prompt": "q", "chosen": "a", "rejected": "a"}]
    )
    prepared = _prepare(path, streaming=True, eval_split_size=2.0, max_malformed_share=0.5)
    first = [row.source for row in _train(prepared)]
    assert sorted(first) == sorted(f"{path}:{line}" for line in range(3, 13))
    assert [example.source for example in prepared.eval_examples] == [f"{path}:1", f"{path}:2"]
    assert prepared.report.sources[0].malformed_kinds == {"identical answers": 1}
    prepared.train.set_epoch(1)  # type: ignore[union-attr]
    assert [row.source for row in _train(prepared)] != first


def test_mixtures_repeat_whole_comparisons(tmp_path: Path) -> None:
    large, small = _write(tmp_path / "l.jsonl", _pairs(*range(20))), _write(tmp_path / "s.jsonl", _pairs(91))
    datasets = [DatasetConfig(path=large), DatasetConfig(path=small, weight=3.0)]
    prepared = prepare_datasets(DataConfig(datasets=datasets), TOKENIZER, seed=0, comparisons=True)
    assert prepared.report.mixture == [20, 3]
    assert isinstance(prepared.train, RowSelection)
    last = prepared.train[-1]
    assert isinstance(last, ComparisonRow) and last.source == f"{small}:1"
    assert np.array_equal(last.scores, [1.0, 0.0])
