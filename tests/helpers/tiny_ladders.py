"""Tiny models with a ladder on them, whose side networks have been moved away from their start."""

from __future__ import annotations

from typing import Any

import torch
from helpers.tiny_models import VOCABULARY, redraw, tiny_model
from transformers import AutoConfig, AutoModelForSeq2SeqLM, PreTrainedModel

from hf_align.adapters.custom.model import CustomModel, add_adapter
from hf_align.adapters.ladder.method import LADDER, EncoderLadder, Ladder, LadderOptions

SEQ2SEQ: dict[str, dict[str, Any]] = {
    "t5": {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_decoder_layers": 2, "num_heads": 4},
    "bart": {
        "d_model": 32,
        "encoder_layers": 2,
        "decoder_layers": 3,
        "encoder_attention_heads": 4,
        "decoder_attention_heads": 4,
        "encoder_ffn_dim": 48,
        "decoder_ffn_dim": 48,
        "max_position_embeddings": 64,
    },
}


def tiny_seq2seq(kind: str) -> PreTrainedModel:
    """A float32 encoder-decoder model in evaluation mode; BART's decoder is longer than its encoder."""
    torch.manual_seed(0)
    ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
    ids |= {"forced_eos_token_id": None} if kind == "bart" else {}
    config = AutoConfig.for_model(kind, vocab_size=VOCABULARY, **ids, **SEQ2SEQ[kind])
    model = AutoModelForSeq2SeqLM.from_config(config, dtype=torch.float32).eval()
    redraw(model, 0.15)
    return model


def laddered(base: Any, *, moved: bool = True, **options: Any) -> CustomModel:
    """``base`` with a ladder a quarter as wide; ``moved``: its weights are not as they begin."""
    torch.manual_seed(1)
    model = add_adapter(
        base, LADDER, LadderOptions(**{"reduction_factor": 4, **options}), task_type="CAUSAL_LM"
    )
    if moved:
        with torch.no_grad():
            for ladder in ladders(model):
                for name, parameter in ladder.named_parameters():
                    if name.startswith("up."):
                        parameter.normal_(0.0, 0.3)
                    elif name.endswith("alpha"):
                        parameter.normal_(0.0, 0.05)
    return model


def ladders(model: torch.nn.Module) -> list[Any]:
    """The side networks in ``model``: of its decoder, or of its encoder and of its decoder."""
    return [module for module in model.modules() if isinstance(module, Ladder | EncoderLadder)]


def tiny_ladder(family: str = "llama", **options: Any) -> CustomModel:
    return laddered(tiny_model(family), **options)
