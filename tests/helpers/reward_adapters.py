"""Reward adapters that were saved, and scores by transformers alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from helpers.comparisons import random_comparison
from helpers.tiny_checkpoint import save_tiny_checkpoint, tiny_tokenizer
from transformers import AutoTokenizer

from hf_align.config import ModelConfig
from hf_align.modeling.pad_token import choose_pad_token
from hf_align.modeling.reward_model import load_reward_base
from hf_align.types import ComparisonRow

ROWS = [
    random_comparison(11, (7, 4), seed=1),
    random_comparison(2, (3, 9, 5, 8), seed=2),
    random_comparison(0, (6, 5), seed=3),
    random_comparison(17, (2, 2, 12), seed=4),
]


def sequences(rows: list[ComparisonRow]) -> list[list[int]]:
    return [row.sequence(k).input_ids.tolist() for row in rows for k in range(len(row.branches))]


def plain(model: Any, ids: list[list[int]], side: str, pad: int) -> np.ndarray:
    """Scores by transformers alone, in one padded batch."""
    width = max(map(len, ids))
    fill = [[pad] * (width - len(row)) for row in ids]
    padded = [f + row if side == "left" else row + f for f, row in zip(fill, ids, strict=True)]
    gaps = [[0] * len(f) for f in fill]
    real = [[1] * len(row) for row in ids]
    mask = [g + r if side == "left" else r + g for g, r in zip(gaps, real, strict=True)]
    with torch.no_grad():
        output = model(input_ids=torch.tensor(padded), attention_mask=torch.tensor(mask))
    return output.logits[:, 0].numpy()


def save_reward_adapter(folder: Path, base: str, *, head: bool = True) -> Any:
    """A LoRA reward model with random weights, of a base whose tokenizer needed a new pad token."""
    from peft import LoraConfig, get_peft_model

    model = load_reward_base(ModelConfig(base), trainable_base=False, precision="fp32", use_cpu=True)
    tokenizer = AutoTokenizer.from_pretrained(base)
    choose_pad_token(tokenizer, model)
    torch.manual_seed(5)
    adapted = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear", task_type="SEQ_CLS"))
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    adapted.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    if not head:
        from safetensors.torch import load_file, save_file

        weights = {
            k: v for k, v in load_file(folder / "adapter_model.safetensors").items() if "score" not in k
        }
        save_file(weights, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    return adapted


def base_with_pad_equal_to_eos(folder: Path) -> str:
    save_tiny_checkpoint(folder)
    tokenizer = tiny_tokenizer()
    tokenizer.pad_token = tokenizer.eos_token
    tokenizer.chat_template += "<|endoftext|>"
    tokenizer.save_pretrained(folder)
    return str(folder)
