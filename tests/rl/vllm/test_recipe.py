"""Sampling on a vLLM server in a recipe: TRL's names, and the combinations that cannot be followed."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from hf_align.errors import UserError
from hf_align.rl.recipe import PpoConfig
from hf_align.rl.vllm.recipe import VllmConfig

REQUIRED = {"model_name_or_path": "m", "datasets": ["x.jsonl"], "reward_functions": ["a.py:f"]}
CORRECTED = {"use_vllm": True, "vllm_importance_sampling_correction": True}


def parse(**given: Any) -> PpoConfig:
    return PpoConfig.from_flat({**REQUIRED, **given})


def test_names_are_those_of_trl() -> None:
    trl = pytest.importorskip("trl")
    fields = {field.name: field for field in dataclasses.fields(trl.GRPOConfig)}
    for field in dataclasses.fields(VllmConfig):
        assert field.name in fields, field.name
    assert fields["vllm_server_timeout"].default == VllmConfig().vllm_server_timeout


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"use_vllm": True},
        {"use_vllm": True, "adapter": "lora", "use_rslora": True, "temperature": 0.7},
        {"use_vllm": True, "adapter": "qlora", "load_in_4bit": True},
        {"use_vllm": True, "top_p": 0.9, "top_k": 20},
        {**CORRECTED, "temperature": 0.7, "vllm_importance_sampling_mode": "sequence_mask"},
        {"use_vllm": True, "vllm_server_base_url": "https://[::1]:8000/served"},
        {"adapter": "lora", "use_dora": True, "top_p": 0.9, "temperature": 0.7},
    ],
)
def test_what_goes_together(given: dict[str, Any]) -> None:
    assert parse(**given).vllm.use_vllm == bool(given.get("use_vllm"))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"use_vllm": True, "adapter": "ia3"},
            "use_vllm, adapter: vLLM can load LoRA adapters and whole models",
        ),
        (
            {"use_vllm": True, "adapter": "bottleneck"},
            "not 'bottleneck'; expected adapter: lora, qlora or none",
        ),
        (
            {"use_vllm": True, "adapter": "lora", "use_dora": True},
            "use_vllm, use_dora: vLLM loads no adapter",
        ),
        (
            {"use_vllm": True, "adapter": "lora", "modules_to_save": ["lm_head"]},
            "use_vllm, modules_to_save: vLLM loads no adapter with modules_to_save",
        ),
        (
            {**CORRECTED, "top_p": 0.9},
            "vllm_importance_sampling_correction, top_p: the weight of a token needs",
        ),
        ({**CORRECTED, "top_k": 5}, "take top_p 1 and top_k 0, or do without the correction"),
        ({"use_vllm": True, "top_k": 5, "temperature": 0.7}, "use_vllm, temperature, top_k: vLLM gives"),
        ({"use_vllm": True, "vllm_server_base_url": "localhost:8000"}, "such as http://localhost:8000"),
        ({"use_vllm": True, "vllm_server_base_url": "http://a:x1@h:80"}, "a user or password before '@'"),
        ({"use_vllm": True, "vllm_server_base_url": "http://h:port"}, "found 'http://h:port'"),
        ({"use_vllm": True, "vllm_server_base_url": "http://[::1"}, "vllm_server_base_url: found"),
        ({"use_vllm": True, "vllm_server_timeout": 0}, "vllm_server_timeout: found the number 0"),
        ({**CORRECTED, "vllm_importance_sampling_mode": "token"}, "token_truncate, token_mask"),
        ({**CORRECTED, "vllm_importance_sampling_clip_max": 0}, "expected a number above 0"),
        ({"use_vlm": True}, "Did you mean 'use_vllm'?"),
    ],
)
def test_what_is_refused_is_explained(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as problem:
        parse(**given)
    assert message in str(problem.value), problem.value


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("vllm_server_timeout: 5", "vllm_server_timeout: this has no effect, because use_vllm is false"),
        (
            "use_vllm: true\nvllm_importance_sampling_clip_max: 2",
            "because vllm_importance_sampling_correction is false",
        ),
    ],
)
def test_keys_without_effect_are_refused(line: str, message: str, tmp_path: Any) -> None:
    from hf_align.rl.recipe import parse_ppo

    path = tmp_path / "recipe.yaml"
    path.write_text(f"model_name_or_path: m\ndatasets: x.jsonl\nreward_functions: a.py:f\n{line}\n")
    with pytest.raises(UserError, match=message):
        parse_ppo(["--config", str(path)])
