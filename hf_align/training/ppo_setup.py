"""Accelerator, optimizer, schedule and KL controller of a PPO run, from the options of its recipe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from accelerate import Accelerator, DistributedType
from transformers import Trainer, get_scheduler

from hf_align.errors import UserError
from hf_align.losses import AdaptiveKLController, FixedKLController
from hf_align.training.arguments import training_arguments

if TYPE_CHECKING:
    from hf_align.config.ppo import PpoConfig, PpoOptionsConfig
    from hf_align.training.ppo_models import PpoModels
    from hf_align.training.stage import Run


@dataclass(frozen=True)
class Prepared:
    """``module``: the trained module, on its device and wrapped for several processes."""

    accelerator: Accelerator
    module: torch.nn.Module
    optimizer: torch.optim.Optimizer
    scheduler: Any


def prepare(run: Run, models: PpoModels, *, steps: int) -> Prepared:
    """``steps``: optimizer steps of the whole run. Raises UserError under FSDP and DeepSpeed."""
    config: PpoConfig = run.config
    machine, training = run.machine, config.training
    args = training_arguments(
        training, precision=machine.precision, use_cpu=machine.use_cpu, steps_per_epoch=steps
    )
    # Asking for the device lets transformers settle devices and processes as it does for every stage.
    device = args.device
    accelerator = Accelerator(
        mixed_precision="no" if machine.precision == "fp32" else machine.precision, cpu=machine.use_cpu
    )
    if accelerator.distributed_type in (DistributedType.FSDP, DistributedType.DEEPSPEED):
        raise UserError(
            "PPO runs in one process or under DistributedDataParallel: sharded models (FSDP, DeepSpeed) "
            "cannot write answers token by token. Start it with NPROC=… or recipes/accelerate/ddp.yaml"
        )
    module = accelerator.prepare_model(models.module)
    if models.reference is not None:
        models.reference.to(device)
    optimizer_class, options = Trainer.get_optimizer_cls_and_kwargs(args, models.policy)
    optimizer = optimizer_class(_groups(models.module, training.weight_decay), **options)
    scheduler = get_scheduler(
        training.lr_scheduler_type,
        optimizer=optimizer,
        num_warmup_steps=int(args.warmup_steps),
        num_training_steps=steps,
        scheduler_specific_kwargs=dict(training.lr_scheduler_kwargs),
    )
    return Prepared(accelerator, module, optimizer, scheduler)


def kl_controller(options: PpoOptionsConfig, coefficient: float) -> AdaptiveKLController | FixedKLController:
    """What steers the weight of the divergence, from its weight so far."""
    if not options.adaptive_kl:
        return FixedKLController(coefficient)
    return AdaptiveKLController(coefficient, target=options.target_kl, horizon=options.kl_horizon)


def _groups(module: torch.nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Matrices decay; biases and the weights of norms do not."""
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    matrices = [parameter for parameter in trained if parameter.ndim > 1]
    rest = [parameter for parameter in trained if parameter.ndim <= 1]
    groups = [
        {"params": matrices, "weight_decay": weight_decay},
        {"params": rest, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]
