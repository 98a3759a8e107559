"""Options of the data: what is refused, and entries in their different forms."""

from __future__ import annotations

from typing import Any

import pytest

from hf_align.config import (
    DataConfig,
    DatasetConfig,
)
from hf_align.errors import UserError


def _data(**values: Any) -> DataConfig:
    return DataConfig(datasets=[DatasetConfig("a.jsonl")], **values)


@pytest.mark.parametrize(
    "values",
    [
        {"eval_split_size": 1.5},
        {"eval_split_size": -0.1},
        {"streaming": True, "eval_split_size": 0.1},
        {"streaming": True, "mixture_exponent": 0.5},
        {"mixture_exponent": 0.0},
        {"mixture_exponent": 1.1},
        {"max_length": 1},
        {"max_malformed_share": 1.01},
        {"system_prompt": ""},
    ],
)
def test_bad_data_options(values):
    with pytest.raises(UserError, match=next(reversed(values))):
        _data(**values)


def test_good_data_options():
    assert _data(streaming=True, eval_split_size=100).eval_split_size == 100.0
    assert _data(eval_split_size=0.25, mixture_exponent=0.5).mixture_exponent == 0.5
    assert _data(eval_datasets="b.jsonl").eval_datasets == [DatasetConfig("b.jsonl")]
    assert DataConfig(datasets=["a", {"path": "b", "weight": 2}]).datasets == [
        DatasetConfig("a"),
        DatasetConfig("b", weight=2.0),
    ]


@pytest.mark.parametrize(
    ("datasets", "message"),
    [
        ([], "empty list"),
        ([3], "path"),
        ([{"pth": "a"}], "Did you mean 'path'"),
        ([{"weight": 1.0}], "'path' is missing"),
        ([{"path": "a", "weight": 0}], "weight"),
        ([""], "path"),
        (None, "datasets"),
    ],
)
def test_bad_datasets(datasets, message):
    with pytest.raises(UserError, match=message):
        DataConfig(datasets=datasets)
