"""Folders with a tiny random reward model, and rows of questions that have a short answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from helpers.tiny_checkpoint import save_tiny_checkpoint, tiny_tokenizer
from helpers.tiny_models import redraw
from transformers import AutoConfig, AutoModelForSequenceClassification


def save_tiny_reward_model(folder: Path) -> str:
    """A sequence classifier of one label, whose scores differ from answer to answer."""
    save_tiny_checkpoint(folder)
    config = AutoConfig.from_pretrained(folder)
    tokenizer = tiny_tokenizer()
    config.num_labels, config.pad_token_id = 1, tokenizer.pad_token_id
    torch.manual_seed(5)
    model = AutoModelForSequenceClassification.from_config(config, dtype=torch.float32)
    redraw(model, 0.2)
    model.save_pretrained(folder)
    return str(folder)


def write_questions(path: Path, rows: int, **columns: Any) -> str:
    """Row i asks where i lamps go; ``columns`` are the same in every row."""
    cities = ["Oslo", "Rome", "Lima", "Cairo"]
    lines = [
        {"prompt": [{"role": "user", "content": f"Where do {i} lamps go?"}],
         "completion": [{"role": "assistant", "content": cities[i % 4]}], **columns}
        for i in range(rows)
    ]  # fmt: skip
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)
