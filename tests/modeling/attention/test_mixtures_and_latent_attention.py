"""Mixtures of experts and latent attention are packed: exactly, and what leaks is still found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.tiny_models import VOCABULARY, random_rows, redraw
from transformers import AutoConfig, AutoModelForCausalLM

from hf_align.data.packing import pack_rows
from hf_align.modeling.attention.expert_rows import experts_token_by_token
from hf_align.modeling.attention.packing_probe import enable_segment_attention, shares_prefixes
from hf_align.modeling.heads.target import install_target_head
from hf_align.modeling.inputs import model_inputs
from hf_align.modeling.loading import name_base_model

_SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 24, "head_dim": 8}
_FOUR = {**_SIZES, **_EXPERTS, "num_experts": 4, "num_local_experts": 4}
_LATENT = {
    **_SIZES,
    "num_key_value_heads": 4,
    "kv_lora_rank": 16,
    "q_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 12,
}
_DEEPSEEK = {**_LATENT, **_EXPERTS, "n_routed_experts": 4, "n_group": 1, "topk_group": 1}
MIXTURES: dict[str, dict[str, Any]] = {
    "mixtral": _FOUR,
    "qwen3_moe": _FOUR,
    "olmoe": _FOUR,
    "phimoe": _FOUR,
    "hunyuan_v1_moe": {**_FOUR, "moe_topk": 2},
    "jetmoe": {**_SIZES, "kv_channels": 8, "num_local_experts": 4},
}
LATENT: dict[str, dict[str, Any]] = {
    "deepseek_v2": {**_DEEPSEEK, "first_k_dense_replace": 1},
    "deepseek_v3": {**_DEEPSEEK, "first_k_dense_replace": 1},
    "minicpm3": {**_LATENT, "head_dim": 16},
}


def built(model_type: str, **options: Any) -> Any:
    torch.manual_seed(0)
    config = AutoConfig.for_model(model_type, **options)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    redraw(model, 0.15)
    name_base_model(model)
    return model


@pytest.mark.parametrize("family", [*MIXTURES, *LATENT])
def test_packed_rows_and_gradients_are_those_of_each_row_alone(family: str) -> None:
    options = (MIXTURES | LATENT)[family]
    model, plain = built(family, **options), built(family, **options)
    assert enable_segment_attention(model) and shares_prefixes(model)
    install_target_head(model)
    rows = random_rows([11, 4, 17])
    found = model(**model_inputs(pack_rows(rows)))["logps"]
    found.sum().backward()
    plain.set_attn_implementation("eager")
    expected = []
    for row in rows:
        ids = torch.from_numpy(row.input_ids.astype("int64"))[None]
        logps = plain(input_ids=ids, use_cache=False).logits[0, :-1].log_softmax(dim=-1)
        expected.append(logps.gather(1, ids[0, 1:, None])[:, 0][torch.from_numpy(row.target_mask[1:])])
    torch.cat(expected).sum().backward()
    torch.testing.assert_close(found, torch.cat(expected), rtol=1e-4, atol=1e-4)
    for (name, one), other in zip(model.named_parameters(), plain.parameters(), strict=True):
        if other.grad is not None:
            torch.testing.assert_close(one.grad, other.grad, rtol=1e-3, atol=1e-3, msg=name)


@pytest.mark.parametrize("family", MIXTURES)
def test_a_leak_of_a_millionth_is_found_beside_experts(family: str, caplog: pytest.LogCaptureFixture) -> None:
    model = built(family, **MIXTURES[family])

    def leak(module: Any, args: Any, output: Any) -> Any:
        return output + 1e-6 * output.mean(dim=1, keepdim=True)

    model.get_input_embeddings().register_forward_hook(leak)
    assert not enable_segment_attention(model)
    assert "sequences of one row influence each other" in caplog.text


def test_a_mask_that_lets_rows_see_each_other_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    from hf_align.modeling.attention import segments

    def blind(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> Any:
        repeat = query.shape[1] // key.shape[1]
        key, value = (x.repeat_interleave(repeat, dim=1) for x in (key, value))
        output = torch.nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        return output.transpose(1, 2)

    monkeypatch.setattr(segments, "attend_by_segments", blind)
    assert not enable_segment_attention(built("mixtral", **MIXTURES["mixtral"]))


def test_experts_by_token_give_what_they_give_together_and_are_left_as_they_were() -> None:
    model = built("mixtral", **MIXTURES["mixtral"])
    ids = torch.arange(5, 15)[None]
    with torch.no_grad():
        together = model(ids).logits
        with experts_token_by_token(model):
            alone = model(ids).logits
    torch.testing.assert_close(alone, together, rtol=1e-5, atol=1e-5)
    assert not any("forward" in vars(module) for module in model.modules())


def test_the_text_model_of_llama_4_has_a_trunk(tmp_path: Path) -> None:
    model = built("llama4_text", **_FOUR, intermediate_size_mlp=48, attention_chunk_size=64)
    assert model.base_model is model.model
    ids = torch.arange(5, 15)[None]
    with torch.no_grad():
        expected = model(ids).logits[0, :-1].log_softmax(dim=-1).gather(1, ids[0, 1:, None])[:, 0]
        install_target_head(model)
        labels = torch.cat([ids[:, 1:], torch.full((1, 1), -100)], dim=1)
        torch.testing.assert_close(model(ids, shift_labels=labels)["logps"], expected, rtol=1e-4, atol=1e-4)
    model.save_pretrained(tmp_path)
    again, facts = AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not facts["missing_keys"] and not facts["unexpected_keys"]
    assert torch.equal(again.model.embed_tokens.weight, model.model.embed_tokens.weight)
