"""Runs of the reward command on a tiny model, and the pairs and rankings that they train on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from helpers.tiny_checkpoint import save_tiny_checkpoint
from helpers.tiny_runs import write_training_recipe as write_recipe

from hf_align.commands import reward

CITIES = ["Oslo", "Rome", "Lima", "Cairo"]


def write_pairs(path: Path, rows: int, *, start: int = 0) -> str:
    """Orders with a right and a wrong answer, which ends otherwise; row i asks for i pieces."""
    with path.open("w", encoding="utf-8") as stream:
        for i in range(start, start + rows):
            right = json.dumps({"item": "lamps", "quantity": i, "city": CITIES[i % 4]})
            wrong = f"Thank you, {i} lamps it is." + " Please wait." * (i % 3)
            row = {
                "prompt": f"Please send {i} lamps to {CITIES[i % 4]}." + " Thank you." * (i % 2),
                "chosen": right,
                "rejected": wrong,
            }
            stream.write(json.dumps(row) + "\n")
    return str(path)


def write_rankings(path: Path, rows: int, *, start: int = 0) -> str:
    """Orders with three answers, the second and the third equally bad in every other row."""
    with path.open("w", encoding="utf-8") as stream:
        for i in range(start, start + rows):
            city = CITIES[i % 4]
            answers = [f"{i} lamps to {city}.", f"Lamps to {city}.", "No." + " Never." * (i % 3)]
            row = {
                "prompt": f"Please send {i} lamps to {city}.",
                "answers": answers,
                "scores": [3, 1, 1 if i % 2 else 0],
            }
            stream.write(json.dumps(row) + "\n")
    return str(path)


def make_inputs(folder: Path, rows: int = 22, **model: Any) -> dict[str, Any]:
    """Recipe keys: a random model of 2 layers, ``rows`` pairs and 5 held-out ones, all in ``folder``."""
    return {
        "model_name_or_path": save_tiny_checkpoint(folder / "model", **model),
        "datasets": write_pairs(folder / "train.jsonl", rows),
        "eval_datasets": write_pairs(folder / "heldout.jsonl", 5, start=100),
    }


def run(inputs: dict[str, Any], output_dir: Path, **options: Any) -> dict[str, Any]:
    return reward.main(["--config", str(write_recipe(inputs, output_dir, **options))])
