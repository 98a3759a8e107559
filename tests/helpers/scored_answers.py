"""A random reward model, and conversations whose answers it scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from helpers.tiny_checkpoint import save_tiny_checkpoint
from helpers.tiny_models import redraw
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

from hf_align.rewards.models import load_rewards
from hf_align.rewards.recipe import RewardsConfig
from hf_align.types import Example, Message

PROMPT = (Message("system", "Be short."), Message("user", "Please send twelve lamps to Oslo."))

TALK = Example("t.jsonl:1", messages=(*PROMPT, Message("assistant", "12 lamps to Oslo.")))

OTHER = Example(
    "t.jsonl:2",
    messages=(
        Message("user", "Hello"),
        Message("assistant", "Hi."),
        Message("user", "And now?"),
        Message("assistant", "Bye."),
        Message("user", "And later?"),
    ),
)

PLAIN = Example("t.jsonl:3", prompt="Once upon", completion=" a time")


def _reward_model(folder: Path, **options: Any) -> str:
    """A random decoder with a head for one score, its tokenizer and template."""
    save_tiny_checkpoint(folder)
    torch.manual_seed(1)
    config = AutoConfig.from_pretrained(folder, num_labels=1, **options)
    model = AutoModelForSequenceClassification.from_config(config, dtype=torch.float32)
    redraw(model, 0.2)
    model.save_pretrained(folder)
    return str(folder)


def _load(**options: Any):
    return load_rewards(RewardsConfig(**options), use_cpu=True, precision="fp32")


def _score(rewards, examples, completions):
    return rewards.score(["" for _ in examples], completions, [{} for _ in examples], examples)


def _plain_transformers(path: str, text: str) -> float:
    """The score of a rendered text, by transformers alone."""
    model = AutoModelForSequenceClassification.from_pretrained(path, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(path)
    ids = torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"]])
    with torch.no_grad():
        states = model.model(input_ids=ids).last_hidden_state
        return float(model.score(states[0, -1]))
