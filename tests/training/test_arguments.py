"""A recipe's training section as transformers' arguments: steps, warm-up, and what Trainer is not told."""

from __future__ import annotations

import importlib.util
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.distributed.fsdp import MixedPrecisionPolicy

from hf_align.config import TrainingConfig
from hf_align.errors import UserError
from hf_align.training.arguments import (
    check_trackers,
    keep_outputs_precise,
    rows_per_rank,
    training_arguments,
)


def made(steps_per_epoch: int | None = 10, **options: Any) -> Any:
    config = TrainingConfig(output_dir="/nowhere/run", **options)
    return training_arguments(config, precision="fp32", use_cpu=True, steps_per_epoch=steps_per_epoch)


@pytest.mark.parametrize(
    ("options", "steps"),
    [
        ({"warmup_steps": 7}, 7),
        ({"warmup_steps": 0.1, "num_train_epochs": 2.5}, 3),  # of 25 steps
        ({"warmup_steps": 0.1, "max_steps": 41}, 5),
        ({"warmup_steps": 0}, 0),
        ({"warmup_steps": 1}, 1),
    ],
)
def test_warm_up_below_one_is_a_share_of_all_steps(options: dict[str, Any], steps: int) -> None:
    assert made(lr_scheduler_type="linear", **options).warmup_steps == steps


def test_trainer_sees_one_batch_a_step() -> None:
    config = TrainingConfig(per_device_train_batch_size=3, gradient_accumulation_steps=4)
    assert rows_per_rank(config) == 12
    found = made(per_device_train_batch_size=3, gradient_accumulation_steps=4, neftune_noise_alpha=5.0)
    assert found.per_device_train_batch_size == 12 and found.gradient_accumulation_steps == 1
    assert not found.neftune_noise_alpha, "the noise is added once, by modeling.neftune"
    assert found.n_gpu <= 1 and not found.remove_unused_columns


def test_a_tracker_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    check_trackers(["none"])
    with pytest.raises(UserError, match=r"report_to: wandb is not installed.*hf_align\[wandb\]"):
        check_trackers(["wandb"])


@pytest.mark.parametrize(("sharded", "kept"), [(True, None), (False, torch.bfloat16)])
def test_outputs_of_a_sharded_model_keep_their_type(sharded: bool, kept: torch.dtype | None) -> None:
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, output_dtype=torch.bfloat16)
    plugin = SimpleNamespace(mixed_precision_policy=policy)
    accelerator = SimpleNamespace(state=SimpleNamespace(fsdp_plugin=plugin), is_fsdp2=sharded)
    keep_outputs_precise(accelerator)
    assert plugin.mixed_precision_policy.output_dtype == kept
    assert plugin.mixed_precision_policy.param_dtype == torch.bfloat16
    keep_outputs_precise(SimpleNamespace(state=SimpleNamespace(), is_fsdp2=False))
