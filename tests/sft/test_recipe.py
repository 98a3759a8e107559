"""The recipe of supervised fine-tuning: combinations of groups."""

from __future__ import annotations

from typing import Any

import pytest

from hf_align.config import AdapterConfig, DataConfig, DatasetConfig, ModelConfig, TrainingConfig
from hf_align.errors import UserError
from hf_align.sft.recipe import SftConfig


def _data(**values: Any) -> DataConfig:
    return DataConfig(datasets=[DatasetConfig("a.jsonl")], **values)


@pytest.mark.parametrize(
    ("model", "data", "training", "message"),
    [
        ({"load_in_4bit": True}, {}, {}, "quantised weights cannot be trained"),
        ({"load_in_8bit": True}, {}, {}, "quantised weights cannot be trained"),
        ({"dtype": "float16"}, {}, {}, "float16 weights"),
        ({}, {}, {"eval_strategy": "epoch"}, "nothing to evaluate on"),
        ({}, {"streaming": True}, {}, "max_steps"),
    ],
)
def test_bad_combinations_of_groups(model, data, training, message):
    with pytest.raises(UserError, match=message):
        SftConfig(ModelConfig("m", **model), _data(**data), training=TrainingConfig(**training))


def test_good_combinations_of_groups():
    lora = AdapterConfig(adapter="lora")
    SftConfig(ModelConfig("m", load_in_4bit=True), _data(), lora)
    SftConfig(ModelConfig("m", dtype="float16"), _data(), lora)
    SftConfig(ModelConfig("m"), _data(eval_split_size=0.1), training=TrainingConfig(eval_strategy="epoch"))
