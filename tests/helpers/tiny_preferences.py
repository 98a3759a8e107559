"""Runs of the dpo command on a tiny model, and the pairs and rankings that it learns from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from helpers.tiny_checkpoint import save_tiny_checkpoint
from helpers.tiny_runs import write_recipe

from hf_align.commands import dpo

CITIES = ("Oslo", "Rome", "Lima", "Cairo")
LORA = {"adapter": "lora", "lora_r": 4, "learning_rate": 0.01}
SHORT = {"num_train_epochs": 1, "save_strategy": "no", "num_samples": 0}


def write_pairs(path: Path, rows: int, *, start: int = 0) -> str:
    """Conversations whose chosen answer names the city, and whose worse one is a refusal of some length."""
    with path.open("w", encoding="utf-8") as stream:
        for i in range(start, start + rows):
            city = CITIES[i % 4]
            row = {
                "prompt": [
                    {"role": "user", "content": f"Please send {i} lamps to {city}." + " Soon." * (i % 3)}
                ],
                "chosen": f"{i} lamps to {city}.",
                "rejected": "No." + " I will not." * (i % 4),
            }
            stream.write(json.dumps(row) + "\n")
    return str(path)


def write_rankings(path: Path, rows: int, *, start: int = 0) -> str:
    """Prompts with three answers each, the best first."""
    with path.open("w", encoding="utf-8") as stream:
        for i in range(start, start + rows):
            city = CITIES[i % 4]
            row = {
                "prompt": [{"role": "user", "content": f"Please send {i} lamps to {city}."}],
                "answers": [f"{i} lamps to {city}.", f"Lamps to {city}.", "No." + " Never." * (i % 3)],
            }
            stream.write(json.dumps(row) + "\n")
    return str(path)


def make_inputs(folder: Path, rows: int = 22, **options: Any) -> dict[str, Any]:
    """Recipe keys: a random model of 2 layers, ``rows`` training pairs, 5 held-out pairs, all in ``folder``.

    ``options`` go into the model's configuration. Log-probabilities of the reference are kept in ``folder``.
    """
    return {
        "model_name_or_path": save_tiny_checkpoint(folder / "model", **options),
        "datasets": write_pairs(folder / "train.jsonl", rows),
        "eval_datasets": write_pairs(folder / "heldout.jsonl", 5, start=100),
        "dataset_cache_dir": str(folder / "cache"),
    }


def run(inputs: dict[str, Any], output_dir: Path, **options: Any) -> dict[str, Any]:
    return dpo.main(["--config", str(write_recipe(inputs, output_dir, **options))])
