"""Tiny random models of many families, built from their configurations without any download."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from hf_align.modeling.loading import keep_soft_capping
from hf_align.types import TokenizedRow

VOCABULARY = 97

_COMMON: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_GROUPED = {**_COMMON, "num_key_value_heads": 2}
_GPT2 = {"vocab_size": VOCABULARY, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128}
_GEMMA = {**_GROUPED, "head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 6}

PACKABLE: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", _GROUPED),
    "qwen2": ("qwen2", _GROUPED),
    "qwen3": ("qwen3", {**_GROUPED, "head_dim": 8}),
    "mistral": ("mistral", {**_GROUPED, "sliding_window": 6}),
    "gemma2": ("gemma2", {**_GEMMA, "attn_logit_softcapping": 3.0, "final_logit_softcapping": 5.0}),
    "gemma3": ("gemma3_text", _GEMMA),
    "gpt2": ("gpt2", _GPT2),
    "gpt_neox": ("gpt_neox", _COMMON),
    # Its head calls the decoder inside its base model. A key's bias has no gradient but rounding.
    "opt": (
        "opt",
        {
            **{k: v for k, v in _COMMON.items() if k != "intermediate_size"},
            "ffn_dim": 48,
            "enable_bias": False,
            "dropout": 0.0,
        },
    ),
    "phi": ("phi", _GROUPED),
    "cohere": ("cohere", {**_GROUPED, "logit_scale": 0.25}),
    "granite": ("granite", {**_GROUPED, "logits_scaling": 4.0}),
}
UNPACKABLE: dict[str, tuple[str, dict[str, Any]]] = {
    "bloom": ("bloom", {"vocab_size": VOCABULARY, "hidden_size": 32, "n_layer": 2, "n_head": 4}),
    "gpt_neo": (
        "gpt_neo",
        {
            "vocab_size": VOCABULARY,
            "hidden_size": 32,
            "num_layers": 2,
            "num_heads": 4,
            "attention_types": [[["global", "local"], 1]],
            "window_size": 6,
            "max_position_embeddings": 128,
        },
    ),
    "falcon": (
        "falcon",
        {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4},
    ),
    "mpt": (
        "mpt",
        {"vocab_size": VOCABULARY, "d_model": 32, "n_layers": 2, "n_heads": 4, "max_seq_len": 128},
    ),
    "mamba": ("mamba", {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2}),
}


def redraw(model: torch.nn.Module, deviation: float) -> None:
    """Draw every matrix of ``model`` from a normal distribution; fresh ones make all outputs much alike."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0.0, deviation)


def tiny_model(family: str, *, seed: int = 0) -> PreTrainedModel:
    """A float32 model in evaluation mode whose weights are large enough to make its outputs differ."""
    model_type, options = (PACKABLE | UNPACKABLE)[family]
    torch.manual_seed(seed)
    config = AutoConfig.for_model(model_type, **options)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    keep_soft_capping(model)
    redraw(model, 0.15)
    return model


def random_rows(lengths: list[int], *, seed: int = 0, target_share: float = 0.6) -> list[TokenizedRow]:
    """Rows of the given lengths with random ids from 3 on and random targets, at least one each."""
    generator = np.random.default_rng(seed)
    rows = []
    for i, length in enumerate(lengths):
        mask = generator.random(length) < target_share
        mask[0] = False
        mask[-1] = True
        ids = generator.integers(3, VOCABULARY, length).astype(np.int32)
        rows.append(TokenizedRow(ids, mask, source=f"random:{i}"))
    return rows
