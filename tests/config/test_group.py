"""Groups and recipes built from Python: every field checked, combinations refused, flat form and back."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from hf_align.config import (
    AdapterConfig,
    DataConfig,
    DatasetConfig,
    ModelConfig,
    SamplesConfig,
    TrainingConfig,
    load_config,
)
from hf_align.config.fields import option, specs_of
from hf_align.config.group import Group
from hf_align.errors import UserError
from hf_align.sft.recipe import SftConfig


def _data(**values: Any) -> DataConfig:
    return DataConfig(datasets=[DatasetConfig("a.jsonl")], **values)


def test_groups_share_no_key():
    names = [name for group in SftConfig.groups().values() for name in specs_of(group)]
    assert len(names) == len(set(names)) > 60
    assert set(names) == set(SftConfig.keys())


def test_every_option_has_help():
    for group in [*SftConfig.groups().values(), DatasetConfig]:
        for spec in specs_of(group).values():
            assert len(spec.option.help) > 5, spec.name


@pytest.mark.parametrize("group", [ModelConfig, AdapterConfig, DataConfig, TrainingConfig, SamplesConfig])
def test_every_field_refuses_a_value_of_no_type(group):
    required = {"model_name_or_path": "m", "datasets": ["a.jsonl"]}
    base = {name: required[name] for name, spec in specs_of(group).items() if spec.required}
    group(**base)
    for name in specs_of(group):
        with pytest.raises(UserError, match=name):
            group(**{**base, name: object()})
        with pytest.raises(UserError, match=name):
            group(**{**base, name: "\ud800"})


@pytest.mark.parametrize(
    ("group", "key", "value"),
    [
        (AdapterConfig, "lora_r", 0),
        (AdapterConfig, "lora_r", True),
        (AdapterConfig, "lora_r", 8.0),
        (AdapterConfig, "lora_alpha", 0.0),
        (AdapterConfig, "lora_dropout", 1.0),
        (AdapterConfig, "adapter", "Lora"),
        (AdapterConfig, "lora_target_modules", ["q_proj", 3]),
        (AdapterConfig, "lora_target_modules", []),
        (AdapterConfig, "modules_to_save", []),
        (TrainingConfig, "learning_rate", 0),
        (TrainingConfig, "learning_rate", float("nan")),
        (TrainingConfig, "learning_rate", float("inf")),
        (TrainingConfig, "learning_rate", "1e-4"),
        (TrainingConfig, "learning_rate", 10**400),
        (TrainingConfig, "max_steps", 0),
        (TrainingConfig, "max_steps", -2),
        (TrainingConfig, "max_steps", 2**63),
        (TrainingConfig, "seed", 2**32),
        (TrainingConfig, "warmup_steps", 1.5),
        (TrainingConfig, "adam_beta2", 1.0),
        (TrainingConfig, "output_dir", ""),
        (TrainingConfig, "report_to", ["none", "wandb"]),
        (TrainingConfig, "report_to", ["wandbb"]),
        (TrainingConfig, "neftune_noise_alpha", 0.0),
        (TrainingConfig, "use_cpu", "yes"),
        (TrainingConfig, "use_cpu", 1),
        (TrainingConfig, "use_cpu", None),
        (SamplesConfig, "num_samples", -1),
    ],
)
def test_bad_values_name_the_key(group, key, value):
    with pytest.raises(UserError, match=f"^{key}: "):
        group(**{key: value})


def test_only_one_quantisation():
    with pytest.raises(UserError, match="load_in_4bit, load_in_8bit"):
        ModelConfig("m", load_in_4bit=True, load_in_8bit=True)


def test_groups_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        TrainingConfig().seed = 1  # type: ignore[misc]


def test_flat_form_goes_through_json_and_back():
    config = SftConfig(
        ModelConfig("m"),
        DataConfig(datasets=[DatasetConfig("a", columns={"prompt": "q"}), "b"], eval_split_size=3),
        AdapterConfig(adapter="lora", lora_target_modules=["q_proj"], lora_alpha=8),
        TrainingConfig(report_to="wandb", lr_scheduler_kwargs={"num_cycles": 1}),
    )
    flat = json.loads(json.dumps(config.to_flat()))
    assert set(flat) == set(SftConfig.keys())
    assert flat["datasets"][0]["columns"] == {"prompt": "q"}
    assert flat["report_to"] == ["wandb"]
    assert SftConfig.from_flat(flat) == config


def test_from_flat_refuses_unknown_and_missing_keys():
    with pytest.raises(UserError, match="Did you mean 'lora_r'"):
        SftConfig.from_flat({"model_name_or_path": "m", "datasets": ["a"], "lora_rr": 3})
    with pytest.raises(UserError, match="datasets: this key is required"):
        SftConfig.from_flat({"model_name_or_path": "m"})


@dataclasses.dataclass(frozen=True)
class MarginConfig(Group):
    """The group that a later stage would add."""

    margin: float = option(0.5, ge=0, help="smallest difference that counts")


@dataclasses.dataclass(frozen=True)
class MarginRecipe(SftConfig):
    """A later stage: the groups of SFT and its own."""

    stage: MarginConfig = dataclasses.field(default_factory=MarginConfig)


def test_another_stage_reuses_the_groups():
    config = load_config(
        MarginRecipe, ["--model_name_or_path", "m", "--datasets", "a.jsonl", "--margin", "1e-1"]
    )
    assert config.stage.margin == 0.1
    assert config.data.datasets == [DatasetConfig("a.jsonl")]
    assert config.to_flat()["margin"] == 0.1
    with pytest.raises(UserError, match="--margin: found the number -1, expected a number of at least 0"):
        load_config(MarginRecipe, ["--model_name_or_path", "m", "--datasets", "a", "--margin", "-1"])
