"""4-bit and 8-bit bases on a CPU: right gradients, also after an evaluation."""

from __future__ import annotations

import pytest
import torch
from helpers.tiny_models import random_rows
from transformers import AutoConfig, AutoModelForCausalLM

from hf_align.adapters.factory import apply_adapter, count_parameters
from hf_align.config import AdapterConfig, ModelConfig
from hf_align.data.packing import pack_rows
from hf_align.modeling.attention.packing_probe import enable_segment_attention
from hf_align.modeling.heads.target import install_target_head
from hf_align.modeling.inputs import model_inputs
from hf_align.modeling.loading import load_model

BATCH = pack_rows(random_rows([14, 9, 20]))
QUANTIZED = {
    "nf4": {"load_in_4bit": True},
    "nf4_single": {"load_in_4bit": True, "use_bnb_nested_quant": False},
    "fp4": {"load_in_4bit": True, "bnb_4bit_quant_type": "fp4"},
    "int8": {"load_in_8bit": True},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        "llama",
        vocab_size=97,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.15,
    )
    path = tmp_path_factory.mktemp("llama")
    AutoModelForCausalLM.from_config(config).save_pretrained(path)
    return str(path)


def adapted(folder: str, precision: str, **options):
    base = load_model(
        ModelConfig(model_name_or_path=folder, **options),
        trainable_base=False,
        precision=precision,
        use_cpu=True,
    )
    assert enable_segment_attention(base)
    install_target_head(base)
    torch.manual_seed(1)
    model = apply_adapter(base, AdapterConfig(adapter="lora", lora_r=4))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.1)
    return model


def gradients(model, precision: str) -> torch.Tensor:
    model.train()
    model.zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16"):
        (-model(**model_inputs(BATCH))["logps"].sum()).backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.requires_grad])


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("kind", sorted(QUANTIZED))
def test_an_evaluation_does_not_change_the_gradients_after_it(folder: str, kind: str, precision: str) -> None:
    model = adapted(folder, precision, **QUANTIZED[kind])
    before = gradients(model, precision)
    model.eval()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16"):
        model(**model_inputs(BATCH))
    assert torch.equal(gradients(model, precision), before)


@pytest.mark.parametrize("kind", sorted(QUANTIZED))
def test_gradients_are_those_of_the_dequantised_base(folder: str, kind: str) -> None:
    model = adapted(folder, "fp32", **QUANTIZED[kind])
    ours = gradients(model, "fp32")
    plain = adapted(folder, "fp32")
    quantised = dict(model.named_modules())
    with torch.no_grad():
        for name, module in plain.named_modules():
            if name.endswith("base_layer"):
                # Multiplying by the identity reads the dequantised weight out of any kind of layer.
                identity = torch.eye(module.in_features)
                module.weight.copy_(quantised[name](identity).T.float())
    theirs = gradients(plain, "fp32")
    similarity = torch.nn.functional.cosine_similarity(ours, theirs, dim=0)
    # int8 also quantises the activations, row by row.
    assert similarity > (0.99 if kind == "int8" else 0.999), similarity


def test_only_adapter_weights_are_trained_and_4_bit_weights_are_counted_whole(folder: str) -> None:
    plain, quantised = adapted(folder, "fp32"), adapted(folder, "fp32", load_in_4bit=True)
    assert count_parameters(plain) == count_parameters(quantised)
    for model in (plain, quantised):
        assert all("lora_" in name for name, p in model.named_parameters() if p.requires_grad)
