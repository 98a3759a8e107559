"""Merging by hand: differences in standard deviations, the type that was trained in, and what is not kept."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.tiny_models import tiny_model
from peft import LoraConfig, get_peft_model

from hf_align.config import ModelConfig
from hf_align.errors import UserError
from hf_align.saved_models.merging import (
    EXACT,
    HALF,
    INT8,
    as_trained,
    cast_for_saving,
    default_tolerance,
    difference,
    keep_if_same,
    logits_of,
    merge,
)


def test_a_difference_by_hand() -> None:
    before = torch.tensor([[0.0, 2.0], [4.0, 2.0]])  # standard deviation of the four values: 1.63299
    after = before + torch.tensor([[3.0, 0.0], [0.0, 0.0]])
    found = difference(after, before)
    assert found.largest == pytest.approx(3 / 1.632993) and found.typical == pytest.approx(found.largest / 2)
    assert found.same_choice == 0.5 and found.positions == 2
    assert difference(before * float("nan"), before).largest == float("inf")


def test_tolerances_follow_the_format() -> None:
    assert default_tolerance(torch.float32, None) == EXACT < default_tolerance(torch.bfloat16, None) == HALF
    assert (
        default_tolerance(torch.float32, "int8") == INT8 and default_tolerance(torch.float32, "nf4") == EXACT
    )


def test_the_sum_gives_the_adapters_logits() -> None:
    torch.manual_seed(0)
    model = get_peft_model(tiny_model("llama"), LoraConfig(r=4, init_lora_weights=False)).eval()
    prompts = [[3, 4, 5], [6, 7, 8, 9]]
    before = logits_of(model, prompts)
    with model.disable_adapter():
        assert difference(logits_of(model, prompts), before).largest > 0.1
    merged = merge(model)
    assert type(merged).__name__ == "LlamaForCausalLM"
    assert difference(logits_of(merged, prompts), before).largest < EXACT and before.shape[0] == 7


def test_the_type_that_was_trained_in() -> None:
    assert as_trained(ModelConfig("m"), "bf16").dtype == "bfloat16"
    assert as_trained(ModelConfig("m", dtype="float16"), "bf16").dtype == "float16"


def test_what_gives_something_else_is_removed(tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        (tmp_path / name).write_text("x")
    keep_if_same(tmp_path, EXACT, what="scores", adapter=tmp_path / "adapter")
    with pytest.raises(UserError, match=r"gives other scores .*by up to 0.5 .*Fix it"):
        keep_if_same(tmp_path, 0.5, what="scores", adapter=tmp_path / "adapter", advice=" Fix it")
    assert [path.name for path in tmp_path.iterdir()] == ["tokenizer.json"]


def test_values_beyond_the_range_of_a_type() -> None:
    layer = torch.nn.Linear(2, 2)
    cast_for_saving(layer, torch.bfloat16)
    assert layer.weight.dtype == torch.bfloat16
    with torch.no_grad():
        layer.weight.fill_(1e30)
    with pytest.raises(UserError, match="save_dtype: weight holds values beyond the range of float16"):
        cast_for_saving(layer, torch.float16)
