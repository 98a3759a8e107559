from __future__ import annotations

import pytest
import torch
from helpers.tiny_models import tiny_model

from hf_align.adapters.factory import apply_adapter, count_parameters
from hf_align.config import AdapterConfig
from hf_align.errors import UserError


def test_no_adapter_is_the_model_itself() -> None:
    model = tiny_model("llama")
    assert apply_adapter(model, AdapterConfig()) is model
    total, trainable = count_parameters(model)
    assert total == trainable == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("options", [{}, {"use_rslora": True}, {"use_dora": True}], ids=str)
def test_lora_starts_as_the_base_model_with_a_frozen_base(options: dict) -> None:
    model = tiny_model("llama")
    ids = torch.arange(5, 15)[None]
    before = model(input_ids=ids).logits.detach()
    adapted = apply_adapter(model, AdapterConfig(adapter="lora", lora_r=4, **options))
    torch.testing.assert_close(adapted(input_ids=ids).logits, before, rtol=1e-5, atol=1e-5)
    trainable = [name for name, p in adapted.named_parameters() if p.requires_grad]
    assert trainable
    assert all("lora_" in name for name in trainable)
    assert not any("lm_head" in name for name in trainable)


def test_parameters_by_hand() -> None:
    adapted = apply_adapter(
        tiny_model("llama"), AdapterConfig(adapter="lora", lora_r=4, lora_target_modules=["q_proj"])
    )
    # Two layers, each 4 x 32 and 32 x 4.
    assert count_parameters(adapted)[1] == 2 * (4 * 32 + 32 * 4)


def test_modules_that_are_not_there_are_listed_with_those_that_are() -> None:
    with pytest.raises(UserError, match=r"lora_target_modules.*q_prj.*Linear layers.*q_proj"):
        apply_adapter(tiny_model("llama"), AdapterConfig(adapter="lora", lora_target_modules=["q_prj"]))


def test_a_head_is_trained_whatever_the_recipe_saves() -> None:
    from transformers import AutoConfig, AutoModelForSequenceClassification

    config = AutoConfig.for_model(
        "llama",
        vocab_size=30,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_labels=1,
    )
    base = AutoModelForSequenceClassification.from_config(config)
    adapter = AdapterConfig(adapter="lora", lora_r=2, modules_to_save=["norm"])
    model = apply_adapter(base, adapter, task_type="SEQ_CLS", head=["score"])
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    kinds = {kind for name in trained for kind in ("lora_", "score", "norm") if kind in name}
    assert kinds == {"lora_", "score", "norm"}
    assert not any("lora_" in name and "score" in name for name in trained), "no adapter on the head itself"
