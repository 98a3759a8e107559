"""Runs of the grpo command on a tiny model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hf_align.commands import grpo


def write_recipe(inputs: dict[str, Any], output_dir: Path, **options: Any) -> Path:
    """Four rollouts of 4 prompts with 3 answers each, for the ``inputs`` of ``tiny_ppo.make_inputs``."""
    recipe = {
        **inputs,
        "output_dir": str(output_dir),
        "use_cpu": True,
        "precision": "fp32",
        "max_length": 256,
        "rollout_batch_size": 4,
        "num_generations": 3,
        "num_rollouts": 4,
        "max_completion_length": 8,
        "learning_rate": 0.003,
        "num_samples": 1,
        "sample_max_new_tokens": 2,
        **options,
    }
    path = output_dir.parent / f"{output_dir.name}.yaml"
    path.write_text(json.dumps(recipe), encoding="utf-8")
    return path


def run(inputs: dict[str, Any], output_dir: Path, **options: Any) -> dict[str, Any]:
    return grpo.main(["--config", str(write_recipe(inputs, output_dir, **options))])
