"""Runs of the ppo command on a tiny model, and rewards that it learns from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from helpers.tiny_checkpoint import save_tiny_checkpoint

from hf_align.commands import ppo

CITIES = ("Oslo", "Rome", "Lima", "Cairo")
REWARDS = """
import random

import numpy
import torch

def share_of_e(prompts, completions, rows):
    return [text.count("e") / max(len(text), 1) for text in completions]

def noisy(prompts, completions, rows):
    return [len(t) + random.random() + numpy.random.rand() + torch.rand(1).item() for t in completions]

def short(prompts, completions, rows):
    return [-len(text) / 10 for text in completions]
"""


def write_prompts(path: Path, rows: int, *, start: int = 0) -> str:
    """Conversations of varying length with an answer, which PPO does not look at."""
    with path.open("w", encoding="utf-8") as stream:
        for i in range(start, start + rows):
            question = f"Please send {i} lamps to {CITIES[i % 4]}." + " Soon." * (i % 3)
            turns = [
                {"role": "user", "content": question},
                {"role": "assistant", "content": f"{i} lamps to {CITIES[i % 4]}."},
            ]
            stream.write(json.dumps({"messages": turns}) + "\n")
    return str(path)


def make_inputs(folder: Path, rows: int = 10, **options: Any) -> dict[str, Any]:
    """Recipe keys: a random model of 2 layers, ``rows`` prompts, 3 held-out ones, and rewards, in ``folder``.

    ``options`` go into the model's configuration.
    """
    rewards = folder / "rewards.py"
    rewards.write_text(REWARDS, encoding="utf-8")
    return {
        "model_name_or_path": save_tiny_checkpoint(folder / "model", **options),
        "datasets": write_prompts(folder / "train.jsonl", rows),
        "eval_datasets": write_prompts(folder / "heldout.jsonl", 3, start=100),
        "reward_functions": [f"{rewards}:share_of_e"],
    }


def write_recipe(inputs: dict[str, Any], output_dir: Path, **options: Any) -> Path:
    """Four rollouts of 4 prompts with 2 answers each; 10 prompts, so that the third begins anew."""
    recipe = {
        **inputs,
        "output_dir": str(output_dir),
        "use_cpu": True,
        "precision": "fp32",
        "max_length": 256,
        "rollout_batch_size": 4,
        "num_generations": 2,
        "num_rollouts": 4,
        "num_ppo_epochs": 2,
        "num_mini_batches": 2,
        "max_new_tokens": 8,
        "learning_rate": 0.003,
        "num_samples": 1,
        "sample_max_new_tokens": 2,
        **options,
    }
    path = output_dir.parent / f"{output_dir.name}.yaml"
    path.write_text(json.dumps(recipe), encoding="utf-8")
    return path


def run(inputs: dict[str, Any], output_dir: Path, **options: Any) -> dict[str, Any]:
    return ppo.main(["--config", str(write_recipe(inputs, output_dir, **options))])
