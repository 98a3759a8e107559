"""The models of a PPO run: what the reference is, and where values come from."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from helpers.tiny_checkpoint import save_tiny_checkpoint, tiny_tokenizer

from hf_align.errors import UserError
from hf_align.rl.models import build_models
from hf_align.rl.recipe import PpoConfig
from hf_align.rl.value_head import ValueHead


def run(folder: Path, **options: Any) -> Any:
    given = {
        "model_name_or_path": save_tiny_checkpoint(folder / "model"),
        "datasets": "a",
        "reward_model": "r",
    }
    config = PpoConfig.from_flat({**given, **options})
    record: dict[str, Any] = {}
    kept = SimpleNamespace(
        content=record,
        update=record.update,
        update_model=lambda facts: record.update(model=record["model"] | facts),
    )
    machine = SimpleNamespace(precision="fp32", use_cpu=True, main=True)
    return SimpleNamespace(
        config=config, machine=machine, tokenizer=tiny_tokenizer(), record=kept, training=config.training
    )


def test_all_weights_have_a_frozen_copy(tmp_path: Path) -> None:
    made = run(tmp_path)
    found = build_models(made)
    assert found.reference is not None and not any(p.requires_grad for p in found.reference.parameters())
    ours, copy = dict(found.policy.named_parameters()), dict(found.reference.named_parameters())
    assert all(torch.equal(ours[name], copy[name]) and ours[name] is not copy[name] for name in copy)
    assert isinstance(found.module.value, ValueHead) and found.packed and found.shared
    assert made.record.content["reference"]["kind"] == "frozen copy"


def test_an_adapter_is_its_own_reference(tmp_path: Path) -> None:
    made = run(tmp_path, adapter="lora", lora_r=2, value_model="separate")
    found = build_models(made)
    assert found.reference is None and made.record.content["reference"]["kind"] == "adapter switched off"
    assert not isinstance(found.module.value, ValueHead)
    trained = [name for name, parameter in found.policy.named_parameters() if parameter.requires_grad]
    assert trained and all("lora_" in name for name in trained)


def test_a_model_of_values_that_is_none_is_named_by_its_key(tmp_path: Path) -> None:
    made = run(tmp_path, value_model="separate", value_model_name_or_path=str(tmp_path / "nothing"))
    with pytest.raises(UserError, match=r"^value_model_name_or_path: "):
        build_models(made)
