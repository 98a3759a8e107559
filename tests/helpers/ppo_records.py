"""The record and the metrics of a PPO run, for pages and cards."""

from __future__ import annotations

import math
from typing import Any


def metrics() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = [{"step": 0, "eval_reward/total": -0.5, "eval_kl": 0.0}]
    for step in range(1, 21):
        rows.append(
            {
                "step": step,
                "time_seconds": 2.0 * step,
                "reward/total": 0.1 * step,
                "reward/reward": 0.2 * step,
                "reward/short": -0.2 * step,
                "kl": 0.2 * step,
                "score": 0.1 * step,
                "kl_penalty": 0.01 * step,
                "kl_coef": 0.05 + 0.001 * step,
                "entropy": 3 - 0.05 * step,
                "response_length": 40 - step,
                "eos_rate": step / 20,
                "clip_fraction": 0.1,
                "value_clip_fraction": 0.0,
                "approx_kl": 0.01,
                "explained_variance": math.nan if step == 1 else 0.5,
                "value_loss": 1 / step,
                "learning_rate": 1e-4,
                "grad_norm": 1.0,
                "stopped_by_kl": float(step % 10 == 0),
            }
        )
    return [*rows, {"step": 20, "eval_reward/total": 1.25, "eval_kl": 3.5}]
