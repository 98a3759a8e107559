"""Adapters saved beside a tiny base, with weights large enough that losing one shows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from helpers.tiny_checkpoint import tiny_tokenizer
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM


def save_adapter(
    folder: Path,
    base: str,
    *,
    new_tokens: int = 0,
    scale: float = 0.05,
    recipe: dict[str, Any] | None = None,
    load: dict[str, Any] | None = None,
    **options: Any,
) -> str:
    """Save a LoRA adapter of ``base`` with random weights to ``folder``.

    ``options`` go into its configuration; ``new_tokens``: tokens that tokenizer and embedding gain first.
    ``recipe``: written as that of a run folder. ``load``: how the base is loaded.
    """
    model = AutoModelForCausalLM.from_pretrained(base, **(load or {}))
    tokenizer = tiny_tokenizer()
    if new_tokens:
        tokenizer.add_tokens([f"<new{i}>" for i in range(new_tokens)])
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    options = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear", **options}
    torch.manual_seed(3)
    adapted = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **options))
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if parameter.requires_grad or (new_tokens and "embed_tokens" in name):
                parameter.add_(torch.randn_like(parameter) * scale)
    adapted.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    if recipe is not None:
        record = {"command": "sft", "status": "completed", "recipe": recipe, "model": {"precision": "fp32"}}
        (folder / "run.json").write_text(json.dumps(record))
    return str(folder)
