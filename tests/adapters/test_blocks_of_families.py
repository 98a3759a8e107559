"""Blocks of many families are found by their structure, and adapters stand where their papers put them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers.tiny_models import tiny_model
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForSeq2SeqLM

from hf_align.adapters.blocks import find_blocks
from hf_align.adapters.bottleneck import BottleneckOptions
from hf_align.adapters.custom.layers import own_layers
from hf_align.adapters.custom.model import add_adapter
from hf_align.adapters.methods import METHODS
from hf_align.errors import UserError

IDS = torch.arange(5, 15)[None]
_ENCODER = {
    "vocab_size": 97,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
}
_BART = {
    "vocab_size": 97,
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "max_position_embeddings": 64,
}
_T5 = {"vocab_size": 97, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4}

# Paths by hand, from the models' own code: last layer of each attention, first and last of the FFN.
PLACES: dict[str, tuple[tuple[str, ...], str, str]] = {
    "llama": (("model.layers.1.self_attn.o_proj",), "mlp.gate_proj", "mlp.down_proj"),
    "gemma2": (("model.layers.1.self_attn.o_proj",), "mlp.gate_proj", "mlp.down_proj"),
    "phi": (("model.layers.1.self_attn.dense",), "mlp.fc1", "mlp.fc2"),
    "gpt2": (("transformer.h.1.attn.c_proj",), "mlp.c_fc", "mlp.c_proj"),
    "gpt_neo": (("transformer.h.1.attn.attention.out_proj",), "mlp.c_fc", "mlp.c_proj"),
    "gpt_neox": (("gpt_neox.layers.1.attention.dense",), "mlp.dense_h_to_4h", "mlp.dense_4h_to_h"),
    "bloom": (("transformer.h.1.self_attention.dense",), "mlp.dense_h_to_4h", "mlp.dense_4h_to_h"),
    "mpt": (("transformer.blocks.1.attn.out_proj",), "ffn.up_proj", "ffn.down_proj"),
    "bert": (("bert.encoder.layer.1.attention.output.dense",), "intermediate.dense", "output.dense"),
    "roberta": (("roberta.encoder.layer.1.attention.output.dense",), "intermediate.dense", "output.dense"),
    "t5": (
        ("decoder.block.1.layer.0.SelfAttention.o", "decoder.block.1.layer.1.EncDecAttention.o"),
        "layer.2.DenseReluDense.wi",
        "layer.2.DenseReluDense.wo",
    ),
    "bart": (
        ("model.decoder.layers.1.self_attn.out_proj", "model.decoder.layers.1.encoder_attn.out_proj"),
        "fc1",
        "fc2",
    ),
}


def family(name: str) -> Any:
    torch.manual_seed(0)
    if name in ("bert", "roberta"):
        return AutoModelForMaskedLM.from_config(AutoConfig.for_model(name, **_ENCODER)).eval()
    if name in ("t5", "bart"):
        config = AutoConfig.for_model(name, **(_T5 if name == "t5" else _BART))
        return AutoModelForSeq2SeqLM.from_config(config).eval()
    return tiny_model(name)


def outputs(model: Any) -> torch.Tensor:
    extra = {"decoder_input_ids": IDS} if model.config.is_encoder_decoder else {}
    with torch.no_grad():
        return model(input_ids=IDS, **extra)[0].clone()


@pytest.mark.parametrize("name", PLACES)
def test_the_last_block_of_each_family(name: str) -> None:
    model = family(name)
    blocks = find_blocks(model)
    attentions, enters, leaves = PLACES[name]
    block = blocks[-1]
    assert len(blocks) == (4 if model.config.is_encoder_decoder else 2)
    assert block.attentions == attentions
    assert block.enters == f"{block.path}.{enters}"
    assert block.leaves == f"{block.path}.{leaves}"
    assert block.width == 32


@pytest.mark.parametrize("placement", ["houlsby", "pfeiffer", "parallel"])
@pytest.mark.parametrize("name", ["llama", "gpt2", "gpt_neox", "bert", "roberta", "t5", "bart"])
def test_every_adapter_changes_the_outputs_of_each_family(name: str, placement: Any) -> None:
    model = family(name)
    before = outputs(model)
    adapted = add_adapter(model, METHODS["bottleneck"], BottleneckOptions(placement, width=4))
    torch.testing.assert_close(outputs(adapted), before, rtol=1e-5, atol=1e-5)
    networks = [
        layer.added["default"]
        for layer in own_layers(model).values()
        if hasattr(layer.added["default"], "up")
    ]
    a_block = {"houlsby": 2, "pfeiffer": 1, "parallel": 1}[placement]
    crossing = 2 if placement == "houlsby" and model.config.is_encoder_decoder else 0
    assert len(networks) == len(find_blocks(adapted.unload())) * a_block + crossing
    adapted = add_adapter(model, METHODS["bottleneck"], BottleneckOptions(placement, width=4))
    for layer in own_layers(model).values():
        network = layer.added["default"]
        if hasattr(network, "up"):
            torch.nn.init.normal_(network.up.bias)
            assert not torch.allclose(outputs(adapted), before, atol=1e-4), "this one is never called"
            torch.nn.init.zeros_(network.up.bias)


def test_a_mixture_of_experts_is_refused() -> None:
    config = AutoConfig.for_model(
        "mixtral", **_ENCODER, num_key_value_heads=2, num_local_experts=2, num_experts_per_tok=1
    )
    model = AutoModelForCausalLM.from_config(config)
    with pytest.raises(UserError, match=r"found in MixtralForCausalLM.*mixtures of experts"):
        add_adapter(model, METHODS["bottleneck"], BottleneckOptions())


def test_a_model_without_attention_has_no_blocks() -> None:
    with pytest.raises(UserError, match="no transformer blocks were found in MambaForCausalLM"):
        add_adapter(tiny_model("mamba"), METHODS["bottleneck"], BottleneckOptions())


def test_experts_beside_a_shared_network_are_refused() -> None:
    """An adapter after the shared network alone would miss what the experts give."""
    config = AutoConfig.for_model(
        "qwen2_moe",
        **_ENCODER,
        num_key_value_heads=2,
        num_experts=2,
        num_experts_per_tok=1,
        moe_intermediate_size=16,
        shared_expert_intermediate_size=16,
    )
    model = AutoModelForCausalLM.from_config(config)
    with pytest.raises(UserError, match=r"block model\.layers\.0 cannot take bottleneck.*o_proj 32x32"):
        add_adapter(model, METHODS["bottleneck"], BottleneckOptions())
