"""The record and the metrics of a watched run."""

from __future__ import annotations

from typing import Any

ALARM = {
    "figure": "watch/honest",
    "rollout": 9,
    "since": 6,
    "then": 4,
    "said": "the watch reward 'honest' has fallen from 0.5 to 0.1",
    "samples": [
        {"prompt": "Which platform?", "answer": "<b>yes yes", "reward": 4.0, "watch": {"honest": 0.0}}
    ],
}


def record(**changes: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "command": "ppo",
        "status": "rolled back",
        "message": "the reward-hacking watch ended this run at rollout 9 and took it back: it fell",
        "recipe": {
            "model_name_or_path": "models/small",
            "datasets": [{"path": "prompts.jsonl"}],
            "output_dir": "runs/p",
            "reward_functions": ["rewards.py:pays"],
            "watch_window": 2,
            "watch_patience": 3,
            "watch_max_drop": 0.5,
            "watch_max_kl": 30.0,
            "watch_max_length_ratio": None,
            "watch_max_repetition_rise": 0.25,
        },
        "final_metrics": {"eval_watch/honest_before": 0.5, "eval_watch/honest": 0.25},
        "reward_watch": {
            "rewards": ["honest"],
            "action": "roll_back",
            "alarms": [ALARM],
            "ended": {"action": "roll_back", "rollout": 9, "checkpoint": "checkpoint-4"},
        },
        "reward_check": {
            "pairs": {
                "reward/judge": {
                    "accuracy": 0.75,
                    "accuracy_interval": [0.6, 0.9],
                    "prompts": 32,
                    "source": "pairs.jsonl",
                },
                "reward/other": {"source": None},
            },
            "scores": {
                "reward/pays": {
                    **{"answers": 8, "mean": 1.5, "std": 0.5, "within_std": 0.25, "min": 1.0, "max": 2.0},
                    **{"ties": 0.5, "edges": [1.0, 1.5, 2.0], "counts": [4, 4]},
                }
            },
            "warnings": ["reward/other: all score the same"],
        },
    }
    return base | changes


def metrics() -> list[dict[str, Any]]:
    return [
        {
            "step": step,
            "learning_rate": 1e-5,
            "reward/total": float(step),
            "reward_std": 2.0,
            "watch/honest": 0.5 - 0.05 * step,
            "watch_std/honest": 0.1,
            "kl": 0.1 * step,
            "response_length": 10.0,
            "repetition": 0.05,
        }
        for step in range(1, 11)
    ]
