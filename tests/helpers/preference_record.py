"""What the record and the log of a preference run hold, with metrics that a person can check."""

from __future__ import annotations

import copy
from typing import Any

RECORD: dict[str, Any] = {
    "command": "dpo",
    "status": "completed",
    "recipe": {
        "model_name_or_path": "models/Tiny",
        "datasets": [{"path": "pairs.jsonl"}],
        "eval_datasets": [{"path": "held.jsonl"}],
        "train_on": "assistant",
        "adapter": "lora",
        "lora_r": 8,
        "loss": ["dpo"],
        "loss_weights": None,
        "beta": 0.1,
        "sft_weight": 0.0,
        "output_dir": "runs/x",
    },
    "reference": {"kind": "adapter switched off", "model": "models/Tiny"},
    "start_check": {
        "checked": True,
        "expected": 0.6931471805599453,
        "found": {"held-out rows": 0.69315, "first step": 0.69314},
    },
    "preference_summary": {
        "before": {
            "prompts": 120,
            "accuracy": 0.0,
            "accuracy_interval": [0.0, 0.03],
            "likelihood_accuracy": 0.708,
            "margin": 0.0,
            "logps/chosen_change": 0.0,
        },
        "after": {
            "prompts": 120,
            "accuracy": 0.95,
            "accuracy_interval": [0.895, 0.977],
            "likelihood_accuracy": 0.867,
            "likelihood_accuracy_interval": [0.794, 0.916],
            "margin": 2.75,
            "margin_interval": [2.35, 3.15],
            "logps/chosen": -80.0,
            "logps/chosen_change": -0.1,
            "kl": 0.2,
        },
        "chosen_fall": {"bound": 0.5, "lowest": -0.3, "step": 40, "warned_at": None},
    },
    "final_metrics": {"eval_loss_before": 0.693, "eval_loss": 0.2, "eval_prompts": 120},
}
ROWS: list[dict[str, Any]] = [
    {
        "step": step,
        "loss": 0.7 / step,
        "prompts": 8,
        "rewards/chosen": 0.1 * step,
        "rewards/rejected": -0.2 * step,
        "rewards/margins": 0.3 * step,
        "rewards/accuracies": min(1.0, 0.1 * step),
        "logps/chosen": -80.0 - step,
        "logps/rejected": -90.0 - step,
        "logps/chosen_change": -0.05 * step,
        "kl": 0.01 * step,
    }
    for step in range(1, 13)
]
ROWS += [
    {"step": step, "eval_loss": 0.5, "eval_prompts": 5, "eval_rewards/margins": 0.1 * step}
    for step in (0, 12)
]


def changed(**changes: Any) -> dict[str, Any]:
    """The record with entries replaced; ``part__key`` replaces one inside a part."""
    record = copy.deepcopy(RECORD)
    for name, value in changes.items():
        part, inner, key = name.partition("__")
        if inner:
            record[part][key] = value
        else:
            record[part] = value
    return record
