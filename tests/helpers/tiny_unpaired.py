"""Runs of the kto command on a tiny model, and the labelled answers that it learns from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from helpers.tiny_checkpoint import save_tiny_checkpoint
from helpers.tiny_preferences import CITIES
from helpers.tiny_runs import write_recipe

from hf_align.commands import kto


def write_labelled(path: Path, rows: int, *, start: int = 0) -> str:
    """Prompts whose desirable answers name the city, two of three rows, and whose others refuse."""
    with path.open("w", encoding="utf-8") as stream:
        for i in range(start, start + rows):
            city, liked = CITIES[i % 4], i % 3 != 0
            answer = f"{i} lamps to {city}." if liked else "No." + " I will not." * (i % 4)
            prompt = f"Please send {i} lamps to {city}." + " Soon." * (i % 3)
            row = {
                "prompt": [{"role": "user", "content": prompt}],
                "completion": [{"role": "assistant", "content": answer}],
                "label": liked,
            }
            stream.write(json.dumps(row) + "\n")
    return str(path)


def make_inputs(folder: Path, rows: int = 22, **options: Any) -> dict[str, Any]:
    """Recipe keys: a random model of 2 layers, ``rows`` training rows, 9 held-out rows, all in ``folder``.

    ``options`` go into the model's configuration. Log-probabilities of the reference are kept in ``folder``.
    """
    return {
        "model_name_or_path": save_tiny_checkpoint(folder / "model", **options),
        "datasets": write_labelled(folder / "train.jsonl", rows),
        "eval_datasets": write_labelled(folder / "heldout.jsonl", 9, start=100),
        "dataset_cache_dir": str(folder / "cache"),
    }


def run(inputs: dict[str, Any], output_dir: Path, **options: Any) -> dict[str, Any]:
    return kto.main(["--config", str(write_recipe(inputs, output_dir, **options))])
