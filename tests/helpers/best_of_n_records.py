"""The record of a run that sampled answers, for pages and cards."""

from __future__ import annotations

from typing import Any

from hf_align.best_of_n.curve import best_of_n_curve

CURVE = best_of_n_curve([[float(i) for i in range(12)], [0.0] * 12])

RECORD: dict[str, Any] = {
    "command": "best-of-n",
    "status": "completed",
    "recipe": {
        "model_name_or_path": "models/tiny",
        "num_generations": 12,
        "datasets": [{"path": "d.jsonl"}],
        "reward_functions": ["f.py:g"],
        "missing_eos_penalty": 1.0,
        "seed": 7,
    },
    "best_of_n": {
        "prompts": 2,
        "samples_per_prompt": 12,
        "curve": CURVE,
        "rewards": {"g_<b>": {"mean": 2.75, "best": 5.5}},
        "stopped": 0.5,
        "tokens": 8.25,
        "distinct": 0.75,
        "undecided": 0.5,
        "files": {"best.jsonl": 1, "samples.jsonl": 2},
    },
    "best_of_n_samples": [
        {
            "source": "d.jsonl:1",
            "prompt": "<script>",
            "reference": "11",
            "best": "11",
            "best_reward": 11.0,
            "best_stopped": True,
            "worst": "",
            "worst_reward": 0.0,
            "worst_stopped": False,
        }
    ],
}
