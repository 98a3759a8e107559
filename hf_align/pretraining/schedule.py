"""The learning rate over a schedule of stages: each has a peak and a schedule of its own, as transformers
makes it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class StageRate:
    """``steps`` of a stage, its peak ``rate``, its ``schedule`` by transformers' name, and its ``warmup``
    steps.

    A ``warmup`` below 1 is a share of the stage's steps.
    """

    steps: int
    rate: float
    schedule: str
    warmup: float = 0.0


def stage_schedule(stages: Sequence[StageRate], base_rate: float) -> Callable[[int], float]:
    """The function that gives the factor of ``base_rate`` at each step, counted over all stages."""
    parts = [(stage.steps, stage.rate / base_rate, _shape(stage)) for stage in stages]

    def factor(step: int) -> float:
        for steps, scale, schedule in parts[:-1]:
            if step < steps:
                return scale * schedule(step)
            step -= steps
        steps, scale, schedule = parts[-1]
        # The scheduler asks for one step more than there are.
        return scale * schedule(min(step, steps))

    return factor


def _shape(stage: StageRate) -> Callable[[int], float]:
    from transformers import get_scheduler

    warmup = math.ceil(stage.warmup * stage.steps) if stage.warmup < 1 else int(stage.warmup)
    constant = stage.schedule in ("constant", "constant_with_warmup")
    name = "constant_with_warmup" if constant else stage.schedule
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    made = get_scheduler(name, optimizer, num_warmup_steps=warmup, num_training_steps=stage.steps)
    schedule: Callable[[int], float] = made.lr_lambdas[0]
    return schedule
