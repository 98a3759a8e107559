"""Runs of the classify command on tiny models of every kind, and rows that it can learn to tell apart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from helpers.pretraining_tokenizers import (
    byte_level_bpe_tokenizer,
    unigram_tokenizer,
    wordpiece_tokenizer,
)
from helpers.tiny_checkpoint import save_tiny_checkpoint
from helpers.tiny_runs import write_training_recipe
from transformers import AutoConfig, AutoModelForMaskedLM, AutoModelForSeq2SeqLM, PreTrainedTokenizerFast

from hf_align.commands import classify

CITIES = ["Oslo", "Rome", "Lima"]

_ENCODER: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
}
_T5 = {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4, "decoder_start_token_id": 0}
_BART = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "max_position_embeddings": 128,
}


def save_model(kind: str, folder: Path) -> str:
    """A random model without a classification head, with its tokenizer; ``kind``: llama, bert, t5 or bart."""
    if kind == "llama":
        return save_tiny_checkpoint(folder)
    tokenizer = {"bert": wordpiece_tokenizer, "t5": unigram_tokenizer, "bart": byte_level_bpe_tokenizer}[
        kind
    ]()
    if kind == "bert":
        # Only what a tokenizer is made with is saved with it.
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=tokenizer.backend_tokenizer,
            model_input_names=["input_ids", "token_type_ids", "attention_mask"],
            **tokenizer.special_tokens_map,
        )
    options = {"bert": _ENCODER, "t5": _T5, "bart": _BART}[kind]
    ids = {
        f"{name}_token_id": number
        for name in ("pad", "bos", "eos")
        if (number := getattr(tokenizer, f"{name}_token_id")) is not None
    }
    if kind == "bart":
        ids |= {"decoder_start_token_id": ids["eos_token_id"], "forced_eos_token_id": ids["eos_token_id"]}
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, vocab_size=len(tokenizer), **options, **ids)
    auto = AutoModelForMaskedLM if kind == "bert" else AutoModelForSeq2SeqLM
    auto.from_config(config, dtype=torch.float32).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def write_labelled(path: Path, rows: int, *, start: int = 0, pairs: bool = False) -> str:
    """Orders of varying length, labelled with the city that they end with; pairs say whether both agree."""
    with path.open("w", encoding="utf-8") as stream:
        for i in range(start, start + rows):
            city = CITIES[i % 3]
            first = f"Please send {'many ' * (i % 4)}lamps to {city}"
            if pairs:
                second = CITIES[(i + (i // 3) % 2) % 3]
                row = {"sentence1": first, "sentence2": f"to {second}", "label": int(second == city)}
            else:
                row = {"text": first, "label": city}
            stream.write(json.dumps(row) + "\n")
    return str(path)


def make_inputs(folder: Path, kind: str = "llama", rows: int = 22) -> dict[str, Any]:
    return {
        "model_name_or_path": save_model(kind, folder / kind),
        "datasets": write_labelled(folder / "train.jsonl", rows),
        "eval_datasets": write_labelled(folder / "heldout.jsonl", 9, start=100),
    }


def write_recipe(inputs: dict[str, Any], output_dir: Path, **options: Any) -> Path:
    """As :func:`write_training_recipe`, within the positions of the tiny encoders."""
    return write_training_recipe(inputs, output_dir, **({"max_length": 128} | options))


def run(inputs: dict[str, Any], output_dir: Path, **options: Any) -> dict[str, Any]:
    return classify.main(["--config", str(write_recipe(inputs, output_dir, **options))])
