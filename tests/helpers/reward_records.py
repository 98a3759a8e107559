"""The record of a reward run, for pages and cards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from hf_align.reporting.html import write_report
from hf_align.reporting.model_card import write_model_card
from hf_align.statistics.calibration import distribution, reward_evaluation


def evaluation(shift: float) -> dict[str, Any]:
    """120 pairs whose margins are normal around ``shift``."""
    rng = np.random.default_rng(0)
    worse = rng.normal(0, 1, 120)
    better = worse + rng.normal(shift, 1, 120)
    differences = rng.integers(-20, 21, 120)
    lengths = rng.integers(5, 40, 240)
    found = reward_evaluation(
        better - worse, np.ones(120), differences, scores=np.concatenate([better, worse]), lengths=lengths
    )
    return found | {"scores": distribution(better, worse, np.ones(120))}


def record(**changes: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "command": "reward",
        "status": "completed",
        "started": "2026-05-03T10:00:00+00:00",
        "recipe": {
            "model_name_or_path": "models/small",
            "datasets": [{"path": "pairs.jsonl"}],
            "output_dir": "runs/r",
            "adapter": "lora",
            "lora_r": 8,
            "center_rewards_coefficient": 0.01,
            "train_on": "assistant",
        },
        "model": {"pad_token": "<|pad|>", "precision": "fp32", "attention": "segments"},
        "merge": {"largest_score_difference": 3e-6},
        "final_metrics": {"eval_loss_before": 0.7, "eval_loss": 0.3, "eval_rewards/accuracies": 0.9},
        "reward_evaluation": {"before": evaluation(0.0), "after": evaluation(1.5)},
        "reward_reference": {"mean": -0.25, "std": 1.5, "answers": 240, "source": "held-out answers"},
    }
    return base | changes


METRICS = [
    {"step": 0, "eval_loss": 0.7, "eval_rewards/accuracies": 0.5, "eval_rewards/margins": 0.0},
    *(
        {
            "step": i,
            "loss": 0.7 / i,
            "rewards/accuracies": 0.5 + i / 100,
            "rewards/margins": i / 10,
            "prompts": 8,
        }
        for i in range(1, 41)
    ),
    {"step": 40, "eval_loss": 0.3, "eval_rewards/accuracies": 0.9, "eval_rewards/margins": 1.5},
]


def written(folder: Path, content: dict[str, Any]) -> tuple[str, str]:
    """Report and card of a run folder with this record."""
    folder.mkdir(exist_ok=True)
    (folder / "run.json").write_text(json.dumps(content))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in METRICS))
    return write_report(folder).read_text(), write_model_card(folder).read_text()
