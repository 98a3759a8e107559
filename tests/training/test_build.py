"""The model of a run: loaded as the recipe says, fit for its rows, with what is trained put on it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from helpers.tiny_checkpoint import save_tiny_checkpoint, tiny_tokenizer

from hf_align.adapters.factory import apply_adapter
from hf_align.config import AdapterConfig, ModelConfig, TrainingConfig
from hf_align.errors import UserError
from hf_align.modeling.loading import load_model
from hf_align.training.build import adapted, check_rows_fit, load_base


def run(folder: Path, *, longest: int = 16, **adapter: Any) -> Any:
    config = SimpleNamespace(
        model=ModelConfig(save_tiny_checkpoint(folder)),
        adapter=AdapterConfig(**adapter),
        training=TrainingConfig(seed=7),
        data=SimpleNamespace(streaming=False, max_length=1000),
    )
    record: dict[str, Any] = {}
    report = SimpleNamespace(to_dict=lambda: {"total": {"lengths": {"max": longest}}})
    return SimpleNamespace(
        config=config,
        training=config.training,
        tokenizer=tiny_tokenizer(),
        machine=SimpleNamespace(precision="fp32", use_cpu=True, main=True),
        data=SimpleNamespace(report=report),
        record=SimpleNamespace(content=record, update=record.update),
    )


def test_it_is_loaded_to_be_trained_where_there_is_no_adapter(tmp_path: Path) -> None:
    seen: list[dict[str, Any]] = []

    def load(config: ModelConfig, **options: Any) -> Any:
        seen.append(options)
        return torch.rand(1)

    drawn = [load_base(run(tmp_path, **given), load, more=1) for given in ({}, {"adapter": "lora"})]
    assert torch.equal(*drawn), "the generator of new weights is seeded"
    common = {"precision": "fp32", "use_cpu": True, "more": 1}
    assert seen == [{**common, "trainable_base": True}, {**common, "trainable_base": False}]
    load_base(run(tmp_path), load, trainable_base=False)
    assert seen[-1]["trainable_base"] is False


def test_the_record_says_what_is_trained(tmp_path: Path) -> None:
    made = run(tmp_path, adapter="lora", lora_r=2)
    model = adapted(made, load_base(made, load_model), made.config.adapter, apply_adapter)
    found = made.record.content["model"]
    counted = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    assert found["trainable_parameters"] == counted > 0 and found["class"] == "LlamaForCausalLM"
    assert found["adapter"] == "lora" and found["trained"]


def test_rows_that_do_not_fit(tmp_path: Path) -> None:
    made = run(tmp_path / "a")
    check_rows_fit(made, load_base(made, load_model))
    long = run(tmp_path / "b", longest=300)
    with pytest.raises(UserError, match="rows have up to 300 tokens"):
        check_rows_fit(long, load_base(long, load_model))
    long.tokenizer.add_tokens(["<new>"])
    with pytest.raises(UserError):
        check_rows_fit(long, load_base(long, load_model))
