"""Repeats of rows are left out of training on request, and counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from helpers.chat_tokenizers import FAMILIES, byte_level_tokenizer

from hf_align.classify.data import prepare_labelled
from hf_align.config import DataConfig
from hf_align.data import prepare_datasets
from hf_align.errors import UserError

TOKENIZER = byte_level_tokenizer(FAMILIES["chatml"][0])


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def pairs(*numbers: int) -> list[dict[str, str]]:
    return [{"prompt": f"{number}?", "completion": f" {number}!"} for number in numbers]


def test_the_first_copy_stays(tmp_path: Path) -> None:
    first, second = write(tmp_path / "a.jsonl", pairs(1, 2, 1)), write(tmp_path / "b.jsonl", pairs(2, 3, 3))
    both = DataConfig(datasets=[first, second], drop_duplicates=True)
    prepared = prepare_datasets(both, TOKENIZER, seed=0)
    places = [row.source.rpartition("/")[2] for row in prepared.train]
    assert places == ["a.jsonl:1", "a.jsonl:2", "b.jsonl:2"]
    for source, (read, kept, repeated) in zip(prepared.report.sources, [(3, 2, 1), (3, 1, 2)], strict=True):
        assert (source.read, source.kept, source.repeated) == (read, kept, repeated)
    assert sum(source.tokens for source in prepared.report.sources) == sum(map(len, prepared.train))
    targets = sum(source.target_tokens for source in prepared.report.sources)
    assert targets == sum(row.target_tokens for row in prepared.train)
    assert "a.jsonl: 1 repeats of earlier rows are left out" in prepared.report.summary()
    assert prepared.report.to_dict()["total"]["repeated"] == 3
    untouched = prepare_datasets(DataConfig(datasets=[first, second]), TOKENIZER, seed=0)
    assert len(untouched.train) == 6 and untouched.report.sources[0].repeated == 0


def test_held_out_rows_have_no_copy_in_training(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", pairs(*range(8), *range(8)))
    data = DataConfig(datasets=[path], drop_duplicates=True, eval_split_size=3)
    prepared = prepare_datasets(data, TOKENIZER, seed=1)
    texts = [TOKENIZER.decode(row.input_ids) for row in (*prepared.train, *prepared.eval)]
    assert (len(prepared.train), len(prepared.eval), prepared.report.leaked) == (5, 3, 0)
    assert len(set(texts)) == 8


def test_rows_that_teach_something_else_stay(tmp_path: Path) -> None:
    answers = [{"prompt": "a", "completion": "bc"}, {"prompt": "ab", "completion": "c"}]
    path = write(tmp_path / "a.jsonl", answers)
    data = DataConfig(datasets=[path], drop_duplicates=True)
    assert len(prepare_datasets(data, TOKENIZER, seed=0).train) == 2
    labelled = [{"text": "a", "label": name} for name in ("x", "y", "x ")]
    data = DataConfig(datasets=[write(tmp_path / "b.jsonl", labelled)], drop_duplicates=True)
    prepared = prepare_labelled(data, TOKENIZER, seed=0)
    assert prepared.train_labels == [1, 1] and prepared.report.sources[0].repeated == 1


def test_what_cannot_be(tmp_path: Path) -> None:
    first, second = write(tmp_path / "a.jsonl", pairs(1, 2)), write(tmp_path / "b.jsonl", pairs(2, 1))
    data = DataConfig(datasets=[first, second], drop_duplicates=True)
    with pytest.raises(UserError, match=r"every row of .*b\.jsonl repeats one of the data sets before it"):
        prepare_datasets(data, TOKENIZER, seed=0)
    with pytest.raises(UserError, match="drop_duplicates, streaming"):
        DataConfig(datasets=[first], drop_duplicates=True, streaming=True)
