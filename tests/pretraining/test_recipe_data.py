"""Text for pre-training, and schedules of stages that do not fit the rest of a recipe."""

from __future__ import annotations

from typing import Any

import pytest

from hf_align.config import TrainingConfig
from hf_align.config.group import KeyProblem
from hf_align.pretraining.recipe_data import PretrainDataConfig, StageConfig, check_stages


@pytest.mark.parametrize(
    ("keys", "at", "message"),
    [
        ({"eval_split_size": 2.5}, "eval_split_size", "whole number of documents"),
        ({"eval_split_size": 0.5, "streaming": True}, "eval_split_size", "the share of a stream is unknown"),
        ({"mixture_exponent": 0.5, "streaming": True}, "mixture_exponent", "sizes of streamed data sets"),
        ({"block_length": 7}, "block_length", "at least 8"),
    ],
)
def test_text(keys: dict[str, Any], at: str, message: str) -> None:
    with pytest.raises(KeyProblem, match=message) as caught:
        PretrainDataConfig(datasets="a.txt", **keys)
    assert caught.value.keys[0] == at


def stages(*entries: dict[str, Any], data: dict[str, Any] | None = None, **training: Any) -> None:
    text = PretrainDataConfig(datasets=["a.txt", "b.txt"], **(data or {}))
    check_stages([StageConfig(**entry) for entry in entries], text, TrainingConfig(**training))


def test_a_schedule_that_fits() -> None:
    stages()
    stages({"steps": 5}, {"steps": 3, "weights": {"a.txt": 0}}, max_steps=8)
    stages({"steps": 5, "lr_scheduler_type": "cosine"}, lr_scheduler_type="polynomial")


@pytest.mark.parametrize(
    ("entry", "others", "message"),
    [
        ({}, {"max_steps": 9}, "the stages have 5 steps, and max_steps is 9"),
        ({}, {"data": {"streaming": True}}, "set streaming to false"),
        ({}, {"lr_scheduler_type": "polynomial"}, "a stage cannot follow polynomial"),
        ({"weights": {"a.tx": 1}}, {}, "'a.tx' is none of the datasets.*Did you mean 'a.txt'"),
        ({"weights": {"a.txt": -1}}, {}, "a.txt: found -1, expected at least 0"),
        ({"weights": {"a.txt": 0, "b.txt": 0}}, {}, "no data set is left"),
    ],
)
def test_a_schedule_that_does_not(entry: dict[str, Any], others: dict[str, Any], message: str) -> None:
    with pytest.raises(KeyProblem, match=message):
        stages({"steps": 5, **entry}, **others)
