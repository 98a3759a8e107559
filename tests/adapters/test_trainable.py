"""Chosen weights: what patterns and shortcuts select, and what is said where they select nothing."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from helpers.tiny_ladders import tiny_seq2seq
from helpers.tiny_models import tiny_model
from transformers import AutoConfig, AutoModelForSequenceClassification

from hf_align.adapters.factory import apply_adapter, trained_weights
from hf_align.adapters.trainable import train_only
from hf_align.config import AdapterConfig
from hf_align.errors import UserError
from hf_align.training import build


def chosen(family: str, *patterns: str) -> set[str]:
    model = tiny_model(family)
    names = train_only(model, patterns)
    assert set(names) == {name for name, p in model.named_parameters() if p.requires_grad}
    return set(names)


def test_the_last_blocks() -> None:
    names = chosen("llama", "last_k:1")
    assert len(names) == 9
    assert all(name.startswith("model.layers.1.") for name in names)


def test_norms_of_every_kind() -> None:
    assert len(chosen("llama", "norms")) == 2 * 2 + 1
    # LayerNorm has a bias as well.
    assert len(chosen("gpt2", "norms")) == 2 * (2 * 2 + 1)


def test_embeddings_head_and_biases() -> None:
    assert chosen("llama", "embeddings") == {"model.embed_tokens.weight"}
    assert chosen("llama", "head") == {"lm_head.weight"}
    # GPT-2's head is its embedding.
    assert chosen("gpt2", "head") == {"transformer.wte.weight"}
    assert chosen("gpt2", "embeddings") == {"transformer.wte.weight", "transformer.wpe.weight"}
    assert len(chosen("gpt2", "biases")) == 13


def test_patterns_add_up() -> None:
    names = chosen("llama", "model.layers.?.mlp.down_proj.weight", "lm_head.*")
    assert names == {f"model.layers.{i}.mlp.down_proj.weight" for i in (0, 1)} | {"lm_head.weight"}


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("model.layers.*.mpl.*", r"'model\.layers\.\*\.mpl\.\*' selects nothing.*layers\.\*\.mlp"),
        ("norm", r"selects nothing in LlamaForCausalLM.*'norms'.*Weights of this model"),
        ("biases", r"'biases' selects nothing"),
        ("last_k:3", r"expected last_k:N with N from 1 to 2"),
        ("last_k", r"expected last_k:N"),
    ],
)
def test_what_selects_nothing_is_refused_with_what_is_there(pattern: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        train_only(tiny_model("llama"), [pattern])


def test_a_recipe_trains_what_it_names_and_says_so() -> None:
    model = tiny_model("llama")
    assert apply_adapter(model, AdapterConfig(trainable=["last_k:2"]), head=["lm_head"]) is model
    parts = {part["name"]: part for part in trained_weights(model)}
    assert parts["model.layers.*.mlp.down_proj.weight"] == {
        "name": "model.layers.*.mlp.down_proj.weight",
        "count": 2,
        "parameters": 2 * 32 * 48,
    }
    assert "lm_head.weight" in parts, "a head that is asked for is always trained"
    assert "model.embed_tokens.weight" not in parts
    assert torch.is_grad_enabled()


def test_shortcuts_on_both_stacks_of_t5_and_on_bert() -> None:
    t5 = tiny_seq2seq("t5")
    names = train_only(t5, ["last_k:1"])
    stacks = {name.split(".")[0] for name in names}
    assert stacks == {"encoder", "decoder"}
    assert {name.split(".")[2] for name in names} == {"1"}
    # The norms of each block (two in the encoder, three in the decoder), and of each stack.
    assert len(train_only(t5, ["norms"])) == 2 * 2 + 2 * 3 + 2
    config = AutoConfig.for_model(
        "bert", vocab_size=97, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_labels=3
    )
    bert = AutoModelForSequenceClassification.from_config(config)
    assert train_only(bert, ["head"]) == ["classifier.weight", "classifier.bias"]
    assert len(train_only(bert, ["embeddings"])) == 3  # tokens, positions, segments


def test_the_log_and_run_json_say_what_is_trained(caplog: pytest.LogCaptureFixture) -> None:
    found: dict[str, Any] = {}
    run: Any = SimpleNamespace(
        training=SimpleNamespace(neftune_noise_alpha=None),
        config=SimpleNamespace(model=SimpleNamespace(model_name_or_path="tiny")),
        machine=SimpleNamespace(precision="fp32"),
        record=SimpleNamespace(update=found.update),
    )
    with caplog.at_level("INFO"):
        build.adapted(run, tiny_model("gpt2"), AdapterConfig(trainable=["norms"]), apply_adapter)
    assert "trained: transformer.h.*.ln_1.weight (2, 64 parameters)" in caplog.text
    assert {"name": "transformer.ln_f.bias", "count": 1, "parameters": 32} in found["model"]["trained"]
    assert found["model"]["trainable_parameters"] == 2 * (2 * 2 + 1) * 32
