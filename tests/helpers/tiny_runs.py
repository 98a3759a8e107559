"""Runs of the sft command on a tiny model, and what is compared of two run folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from helpers.tiny_checkpoint import save_tiny_checkpoint, write_orders
from safetensors.torch import load_file

from hf_align.commands import sft

UNSTABLE = ("time_seconds", "tokens_per_second", "peak_memory_bytes")


def make_inputs(folder: Path, rows: int = 22) -> dict[str, Any]:
    """Recipe keys: a random model of 2 layers, ``rows`` training rows, 4 held-out rows, all in ``folder``."""
    return {
        "model_name_or_path": save_tiny_checkpoint(folder / "model"),
        "datasets": write_orders(folder / "train.jsonl", rows),
        "eval_datasets": write_orders(folder / "heldout.jsonl", 4, start=100),
    }


def write_recipe(inputs: dict[str, Any], output_dir: Path, **options: Any) -> Path:
    """As :func:`write_training_recipe`, with a short sample answer."""
    samples = {"num_samples": 1, "sample_max_new_tokens": 2}
    return write_training_recipe(inputs, output_dir, **(samples | options))


def write_training_recipe(inputs: dict[str, Any], output_dir: Path, **options: Any) -> Path:
    """22 rows in steps of 4 make 6 steps an epoch, the last one ragged; two epochs."""
    recipe = {
        **inputs,
        "output_dir": str(output_dir),
        "use_cpu": True,
        "precision": "fp32",
        "max_length": 256,
        "per_device_train_batch_size": 4,
        "num_train_epochs": 2,
        "learning_rate": 0.003,
        **options,
    }
    path = output_dir.parent / f"{output_dir.name}.yaml"
    path.write_text(json.dumps(recipe), encoding="utf-8")
    return path


def run(inputs: dict[str, Any], output_dir: Path, **options: Any) -> dict[str, Any]:
    return sft.main(["--config", str(write_recipe(inputs, output_dir, **options))])


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(next(iter(sorted(folder.glob("*.safetensors")))))


def same_weights(one: Path, other: Path) -> bool:
    ours, theirs = weights(one), weights(other)
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in theirs)


def close_weights(one: Path, other: Path) -> None:
    """Raise AssertionError where the two differ by more than the order of sums explains."""
    ours, theirs = weights(one), weights(other)
    assert ours.keys() == theirs.keys()
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-4, atol=1e-5)


def merged_metrics(folder: Path) -> list[dict[str, Any]]:
    """The lines as the report shows them, without what depends on the machine's speed."""
    from hf_align.runs.metrics import evaluation_rows, read_metrics, training_rows

    rows = read_metrics(folder / "metrics.jsonl").rows
    return [
        {key: value for key, value in row.items() if key not in UNSTABLE}
        for row in [*training_rows(rows), *evaluation_rows(rows)]
    ]


def steps(folder: Path) -> list[int]:
    """Steps of the checkpoints in ``folder``."""
    return sorted(int(path.name.partition("-")[2]) for path in folder.glob("checkpoint-*"))
