"""Runs of best-of-n with training on a tiny model, for a reward that a few rounds can raise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from helpers.tiny_best_of_n import make_inputs as make_best_of_n_inputs
from helpers.tiny_best_of_n import run as run_best_of_n
from helpers.tiny_checkpoint import write_orders

REWARD = '''"""The share of an answer that is letters of English."""


def letters(prompts, completions, rows):
    return [sum(c.isascii() and c.isalpha() for c in text) / max(len(text), 1) for text in completions]
'''


def make_inputs(folder: Path, rows: int = 8, held_out: int = 12) -> dict[str, Any]:
    """Recipe keys: a random model, prompts, held-out prompts and a reward function, all in ``folder``."""
    inputs = make_best_of_n_inputs(folder, rows)
    (folder / "letters.py").write_text(REWARD, encoding="utf-8")
    return {
        **inputs,
        "reward_functions": f"{folder / 'letters.py'}:letters",
        "eval_datasets": write_orders(folder / "held_out.jsonl", held_out, start=50),
    }


def options(**others: Any) -> dict[str, Any]:
    """Two rounds in which all weights learn from the four best of sixteen answers."""
    return {
        "train": True,
        "rounds": 2,
        "num_generations": 16,
        "keep_best": 4,
        "generation_batch_size": 32,
        "eval_temperature": 1.0,
        "learning_rate": 5e-3,
        "num_train_epochs": 12,
        "per_device_train_batch_size": 4,
        "precision": "fp32",
        **others,
    }


def run(inputs: dict[str, Any], folder: Path, **others: Any) -> dict[str, Any]:
    return run_best_of_n(inputs, folder, **options(**others))


def rounds(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((folder / "run.json").read_text())["rounds"]
    return found
