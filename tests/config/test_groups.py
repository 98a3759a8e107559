"""Groups and recipes built from Python: every field checked, combinations refused, flat form and back."""

from __future__ import annotations

import dataclasses
import inspect
import json
from typing import Any

import pytest

from hf_align.config import (
    AdapterConfig,
    DataConfig,
    DatasetConfig,
    ModelConfig,
    SamplesConfig,
    SftConfig,
    TrainingConfig,
    load_config,
)
from hf_align.config.fields import choices, option, specs_of
from hf_align.config.group import Group
from hf_align.config.schedules import SCHEDULE_ARGUMENTS
from hf_align.errors import UserError


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


def test_only_one_quantisation():
    with pytest.raises(UserError, match="load_in_4bit, load_in_8bit"):
        ModelConfig("m", load_in_4bit=True, load_in_8bit=True)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"eval_strategy": "steps"}, "eval_steps"),
        ({"early_stopping_patience": 2}, "there is no evaluation"),
        ({"load_best_model_at_end": True}, "there is no evaluation"),
        ({"load_best_model_at_end": True, "eval_strategy": "steps", "eval_steps": 5}, "make them equal"),
        (
            {
                "load_best_model_at_end": True,
                "eval_strategy": "steps",
                "eval_steps": 5,
                "save_strategy": "steps",
                "save_steps": 12,
            },
            "multiple of eval_steps",
        ),
        ({"precision": "fp16", "use_cpu": True}, "needs a GPU"),
        ({"force_resume": True}, "nothing is resumed"),
        ({"lr_scheduler_type": "constant", "warmup_steps": 5}, "constant_with_warmup"),
        ({"lr_scheduler_type": "cosine_with_min_lr"}, "min_lr_rate"),
        (
            {
                "lr_scheduler_type": "cosine_with_min_lr",
                "lr_scheduler_kwargs": {"min_lr": 0.1, "min_lr_rate": 1},
            },
            "either min_lr",
        ),
        ({"lr_scheduler_type": "warmup_stable_decay"}, "num_decay_steps"),
        ({"lr_scheduler_kwargs": {"num_cycle": 1}}, "Did you mean 'num_cycles'"),
        ({"lr_scheduler_kwargs": {"num_cycles": "two"}}, "expected a number"),
        ({"lr_scheduler_type": "inverse_sqrt", "lr_scheduler_kwargs": {"timescale": 1.5}}, "whole number"),
        (
            {
                "lr_scheduler_type": "warmup_stable_decay",
                "lr_scheduler_kwargs": {"num_decay_steps": 3, "decay_type": "steep"},
            },
            "one of: linear",
        ),
    ],
)
def test_bad_training_combinations(values, message):
    with pytest.raises(UserError, match=message):
        TrainingConfig(**values)


def test_good_training_combinations():
    TrainingConfig(eval_strategy="epoch", early_stopping_patience=1)
    TrainingConfig(
        eval_strategy="steps", eval_steps=5, save_strategy="steps", save_steps=10, load_best_model_at_end=True
    )
    TrainingConfig(lr_scheduler_type="cosine_with_min_lr", lr_scheduler_kwargs={"min_lr_rate": 0.1})
    TrainingConfig(lr_scheduler_type="polynomial", lr_scheduler_kwargs={"power": 2})
    TrainingConfig(resume_from_checkpoint="auto", force_resume=True)


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


def test_schedule_arguments_are_those_of_transformers():
    # The oracle is transformers: the keyword arguments of each schedule's function but for those that the
    # trainer itself passes.
    from transformers.optimization import TYPE_TO_SCHEDULER_FUNCTION
    from transformers.trainer_utils import SchedulerType

    passed = {"optimizer", "num_warmup_steps", "num_training_steps", "last_epoch"}
    for name, arguments in SCHEDULE_ARGUMENTS.items():
        function = TYPE_TO_SCHEDULER_FUNCTION[SchedulerType(name)]
        assert set(inspect.signature(function).parameters) - passed == set(arguments), name


def test_optimizers_are_those_of_transformers():
    from transformers.training_args import OptimizerNames

    assert set(choices(specs_of(TrainingConfig)["optim"].hint)) <= {name.value for name in OptimizerNames}
