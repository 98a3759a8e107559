"""Rows of every kind, and what is prepared from them, for tests of large sources."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from helpers.chat_tokenizers import FAMILIES, byte_level_tokenizer

from hf_align.config import DataConfig, DatasetConfig
from hf_align.data import PreparedData, prepare_datasets
from hf_align.data.report import DataReport

TOKENIZER = byte_level_tokenizer(FAMILIES["chatml"][0])


def any_row(number: int) -> Any:
    """Rows of every kind: good, malformed when converted, malformed when rendered, long, copies."""
    if number % 11 == 3:
        return {"messages": [{"role": "user", "content": str(number)}]}
    if number % 13 == 5:
        return ["no object"]
    answer = "long " * 60 if number % 17 == 7 else f"answer {number % 30}"
    return {"messages": [{"role": "user", "content": "你好"}, {"role": "assistant", "content": answer}]}


def write_rows(path: Path, numbers: Iterable[int]) -> str:
    path.write_text("".join(json.dumps(any_row(number)) + "\n" for number in numbers))
    return str(path)


def prepare(*paths: str, seed: int = 0, **options: Any) -> PreparedData:
    options = {
        "max_length": 60,
        "overlong": "drop",
        "max_malformed_share": 0.5,
        "dataset_num_proc": 1,
        **options,
    }
    datasets = options.pop("datasets", None) or [DatasetConfig(path=path) for path in paths]
    return prepare_datasets(DataConfig(datasets=datasets, **options), TOKENIZER, seed=seed)


def content_of(prepared: PreparedData) -> tuple[Any, ...]:
    rows = [
        [(row.source, row.input_ids.tolist(), row.target_mask.tolist()) for row in part]
        for part in (list(prepared.train), list(prepared.eval))
    ]
    return rows, list(prepared.eval_examples), prepared.report.to_dict(), _raw_lengths(prepared.report)


def _raw_lengths(report: DataReport) -> list[list[int]]:
    return [source.lengths.tolist() for source in report.sources]
