"""Adapters beside a base, a training loop and data that they do not go with; each refusal names its keys."""

from __future__ import annotations

from typing import Any

import pytest

from hf_align.config import AdapterConfig, DataConfig, ModelConfig, TrainingConfig
from hf_align.config.checks import check_adapter, check_reference, check_rows_are_known
from hf_align.config.group import KeyProblem

KNOWN = DataConfig(datasets="a.jsonl")
STREAM = DataConfig(datasets="a.jsonl", streaming=True)


def check(adapter: dict[str, Any], *, data: DataConfig | None = KNOWN, **other: Any) -> None:
    model = {key: other.pop(key) for key in ("load_in_4bit", "load_in_8bit") if key in other}
    check_adapter(ModelConfig("m", **model), AdapterConfig(**adapter), TrainingConfig(**other), data)


@pytest.mark.parametrize(
    ("adapter", "other", "keys"),
    [
        ({"adapter": "qlora"}, {}, ("adapter", "load_in_4bit")),
        (
            {"adapter": "lora", "init_lora_weights": "pissa"},
            {"load_in_8bit": True},
            ("init_lora_weights", "load_in_8bit"),
        ),
        ({"adapter": "lora", "init_lora_weights": "loftq"}, {}, ("init_lora_weights", "load_in_4bit")),
        (
            {"adapter": "lora", "init_lora_weights": "eva"},
            {"data": STREAM},
            ("init_lora_weights", "streaming"),
        ),
        ({"adapter": "lora", "init_lora_weights": "eva"}, {"data": None}, ("init_lora_weights",)),
        ({"adapter": "ladder", "ladder_cache": True}, {"data": STREAM}, ("ladder_cache", "streaming")),
        (
            {"adapter": "ladder", "ladder_cache": True},
            {"neftune_noise_alpha": 5.0},
            ("ladder_cache", "neftune_noise_alpha"),
        ),
        ({"adapter": "prompt"}, {"neftune_noise_alpha": 5.0}, ("neftune_noise_alpha", "adapter")),
        ({"adapter": "prefix"}, {"gradient_checkpointing": True}, ("gradient_checkpointing", "adapter")),
        ({"adapter": "p_tuning"}, {"resume_from_checkpoint": "auto"}, ("resume_from_checkpoint", "adapter")),
        (
            {"adapter": "prefix", "prefix_projection": True},
            {"resume_from_checkpoint": "auto"},
            ("resume_from_checkpoint", "prefix_projection"),
        ),
    ],
)
def test_what_does_not_go_together(
    adapter: dict[str, Any], other: dict[str, Any], keys: tuple[str, ...]
) -> None:
    with pytest.raises(KeyProblem) as caught:
        check(adapter, **other)
    assert caught.value.keys == keys


@pytest.mark.parametrize(
    ("adapter", "other"),
    [
        ({"adapter": "qlora"}, {"load_in_4bit": True}),
        ({"adapter": "lora", "init_lora_weights": "loftq"}, {"load_in_4bit": True}),
        ({"adapter": "lora", "init_lora_weights": "pissa"}, {}),
        ({"adapter": "lora", "init_lora_weights": "eva"}, {}),
        ({"adapter": "lora"}, {"neftune_noise_alpha": 5.0, "gradient_checkpointing": True, "data": STREAM}),
        ({"adapter": "prompt"}, {"gradient_checkpointing": True, "resume_from_checkpoint": "auto"}),
        ({"adapter": "ladder", "ladder_cache": True}, {}),
    ],
)
def test_what_does(adapter: dict[str, Any], other: dict[str, Any]) -> None:
    check(adapter, **other)


def test_a_method_that_looks_at_rows_names_the_keys_that_hide_them() -> None:
    check_rows_are_known(AdapterConfig(adapter="lora"), ("train",))
    with pytest.raises(KeyProblem) as caught:
        check_rows_are_known(AdapterConfig(adapter="lora", init_lora_weights="eva"), ("train",))
    assert caught.value.keys == ("init_lora_weights", "train")


def test_a_reference_is_the_model_that_training_starts_from() -> None:
    for begins_as_the_model in ({"adapter": "none"}, {"adapter": "lora"}, {"adapter": "ia3"}):
        check_reference(AdapterConfig(**begins_as_the_model), "DPO", "")
    for elsewhere, key in (
        ({"adapter": "prompt"}, "adapter"),
        ({"adapter": "lora", "init_lora_weights": "pissa"}, "init_lora_weights"),
    ):
        with pytest.raises(KeyProblem, match=r"DPO takes it for the reference\. Fix it") as caught:
            check_reference(AdapterConfig(**elsewhere), "DPO", "Fix it.")
        assert caught.value.keys == (key,)
