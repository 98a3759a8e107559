"""The column weight: read, kept with the rows, counted, and refused where nothing can be weighed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from helpers.chat_tokenizers import FAMILIES, byte_level_tokenizer

from hf_align.config import DataConfig, DatasetConfig
from hf_align.data.chat.prompts import read_prompts
from hf_align.data.prepare import PreparedData, prepare_datasets
from hf_align.errors import UserError
from hf_align.types import Example
from hf_align.types.examples import from_stored

TOKENIZER = byte_level_tokenizer(FAMILIES["chatml"][0])


def rows_of(folder: Path, *weights: Any) -> str:
    path = folder / "rows.jsonl"
    lines = []
    for number, weight in enumerate(weights):
        turns = [{"role": "user", "content": f"q{number}"}, {"role": "assistant", "content": "a"}]
        lines.append({"messages": turns} | ({} if weight is None else {"weight": weight}))
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)


def prepared(folder: Path, *weights: Any, weighted: bool = True, **keys: Any) -> PreparedData:
    data = DataConfig([DatasetConfig(rows_of(folder, *weights))], **keys)
    return prepare_datasets(data, TOKENIZER, seed=0, weighted=weighted, keep_examples=True)


def test_weights_of_rows_are_read_kept_and_counted(tmp_path: Path) -> None:
    found = prepared(tmp_path, 2, None, 0.5, 1, "0.25", True, False, 0, "heavy")
    weights = {row.source.rsplit(":", 1)[1]: row.weight for row in found.train}
    assert weights == {"1": 2.0, "2": 1.0, "3": 0.5, "4": 1.0, "5": 0.25, "6": 1.0, "9": 1.0}
    (source,) = found.report.sources
    assert source.changed == {"weighed by their column weight": 3, "left out, their weight is 0": 2}
    assert (source.kept, source.no_target, source.malformed) == (7, 2, 0)
    assert source.columns["weight"] == 7 and source.ignored == {"weight": 1}
    examples = {example.source.rsplit(":", 1)[1]: example for example in found.train.examples}
    assert examples["3"].weight == 0.5


@pytest.mark.parametrize("weight", [-1, "nan", "inf"])
def test_what_is_no_weight_is_malformed(tmp_path: Path, weight: Any) -> None:
    with pytest.raises(UserError, match=r"weight: found .*expected a number of at least 0"):
        prepared(tmp_path, 1, weight)


def test_where_nothing_is_weighed_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="weight: found 2; here every row counts 1"):
        prepared(tmp_path, 2, 1, weighted=False)
    assert len(prepared(tmp_path, 1, 1, weighted=False).train) == 2


def test_a_model_is_asked_whatever_the_weight(tmp_path: Path) -> None:
    data = DataConfig([DatasetConfig(rows_of(tmp_path, 2, 0, 1))])
    prompts, report = read_prompts(data, TOKENIZER)
    assert len(prompts) == 3
    assert report.sources[0].changed == {"with a weight, which counts only where rows are trained": 2}


def test_weights_are_in_the_identity_of_the_rows_and_not_in_that_of_their_tokens(tmp_path: Path) -> None:
    first, other = prepared(tmp_path, 2, 1), prepared(tmp_path, 3, 1)
    assert first.train_fingerprint != other.train_fingerprint
    path = tmp_path / "both.jsonl"
    path.write_text(2 * Path(rows_of(tmp_path, 2)).read_text())
    with path.open("a") as file:
        file.write(Path(rows_of(tmp_path, None)).read_text())
    held_out = DataConfig([DatasetConfig(str(path))], eval_datasets=[DatasetConfig(rows_of(tmp_path, 1))])
    found = prepare_datasets(held_out, TOKENIZER, seed=0, weighted=True)
    assert found.report.sources[0].duplicates == 2 and found.report.leaked == 1


def test_an_example_with_a_weight_is_stored_whole() -> None:
    example = Example("f:1", prompt="a", completion="b", weight=0.5)
    assert from_stored("f:1", *json.loads(json.dumps(example.stored()))) == example
