"""The record of a run of rejection-sampling fine-tuning."""

from __future__ import annotations

from typing import Any

from hf_align.best_of_n.curve import best_of_n_curve


def held_out(reward: float, change: float) -> dict[str, Any]:
    return {
        "prompts": 40,
        "reward": reward,
        "interval": [reward - 0.1, reward + 0.1],
        "change": change,
        "change_interval": [change - 0.125, change + 0.125],
        "stopped": 0.75,
    }


def a_round(number: int, mean: float, reward: float) -> dict[str, Any]:
    sampled = {
        "curve": best_of_n_curve([[mean - 1, mean, mean + 1], [mean, mean, mean]]),
        "prompts": 32,
        "samples_per_prompt": 16,
        "undecided": 0.25,
    }
    return {
        "round": number,
        "sampled": sampled,
        "kept": 50,
        "kept_prompts": 30,
        "held_out": held_out(reward, reward - 0.5),
    }


RECORD: dict[str, Any] = {
    "command": "best-of-n",
    "status": "completed",
    "recipe": {
        "model_name_or_path": "models/tiny",
        "train": True,
        "adapter": "lora",
        "lora_r": 8,
        "num_generations": 16,
        "keep_best": 2,
        "keep_above_mean": None,
        "min_reward": 0.25,
        "datasets": [{"path": "d.jsonl"}],
        "reward_functions": ["f.py:g<b>"],
        "eval_temperature": 0.0,
    },
    "rounds": [
        {"round": 0, "held_out": held_out(0.5, 0.0)},
        a_round(1, 0.25, 1.0),
        a_round(2, 0.75, 1.5),
    ],
    "final_metrics": {"eval_reward/total_before": 0.5, "eval_reward/total": 1.5},
    "generations": [
        {
            "source": "d.jsonl:1",
            "prompt": "<script>",
            "reference": "a",
            "before": "b",
            "before_stopped": False,
            "before_reward": 0.0,
            "after": "a",
            "after_stopped": True,
            "after_reward": 1.0,
        }
    ],
}
