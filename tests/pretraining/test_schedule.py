"""The learning rate over stages, step by step."""

from __future__ import annotations

import pytest
import torch

from hf_align.pretraining.schedule import StageRate, stage_schedule


def rates(stages: list[StageRate], base: float) -> list[float]:
    """What an optimizer with the schedule has at each step."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=base)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, stage_schedule(stages, base))
    found = []
    for _ in range(sum(stage.steps for stage in stages)):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def test_warm_up_then_a_constant_then_linear_to_zero():
    stages = [
        StageRate(4, 0.2, "constant", warmup=2),
        StageRate(2, 0.1, "constant"),
        StageRate(4, 0.1, "linear"),
    ]
    expected = [0.0, 0.1, 0.2, 0.2, 0.1, 0.1, 0.1, 0.075, 0.05, 0.025]
    assert rates(stages, 0.4) == pytest.approx(expected)


def test_a_single_stage_is_the_schedule_of_transformers():
    from transformers import get_scheduler

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.3)
    theirs = get_scheduler("cosine", optimizer, num_warmup_steps=3, num_training_steps=12)
    expected = []
    for _ in range(12):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        theirs.step()
    assert rates([StageRate(12, 0.3, "cosine", warmup=0.25)], 0.3) == pytest.approx(expected)
