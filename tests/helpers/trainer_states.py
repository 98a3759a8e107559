"""States and arguments of a trainer, as callbacks are given them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch


def state(**values: Any) -> SimpleNamespace:
    defaults = {"global_step": 3, "max_steps": 12, "epoch": 0.5, "stateful_callbacks": {}}
    return SimpleNamespace(**{**defaults, "is_world_process_zero": True, **values})


def control(**values: bool) -> SimpleNamespace:
    names = ("should_training_stop", "should_save", "should_evaluate", "should_log")
    return SimpleNamespace(**{**dict.fromkeys(names, False), **values})


ARGS = SimpleNamespace(
    load_best_model_at_end=True,
    metric_for_best_model="eval_loss",
    greater_is_better=False,
    eval_strategy="epoch",
    world_size=1,
    device=torch.device("cpu"),
)
