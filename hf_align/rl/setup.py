"""Accelerator, optimizer, schedule and KL controller of a PPO run, from the options of its recipe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from accelerate import Accelerator
from transformers import Trainer, get_scheduler

from hf_align.losses import AdaptiveKLController, FixedKLController
from hf_align.rl.algorithms.table import ALGORITHMS
from hf_align.rl.sharding import check_sharding, sharded
from hf_align.rl.update import UpdateTools
from hf_align.training.arguments import training_arguments

if TYPE_CHECKING:
    from hf_align.rl.algorithms.options import RlOptionsConfig
    from hf_align.rl.models import PpoModels
    from hf_align.rl.recipe import RlConfig
    from hf_align.training.run import Run


def prepare(run: Run, models: PpoModels, *, steps: int) -> UpdateTools:
    """What updates the ``models``: wrapped for the processes, with an optimizer for ``steps`` steps in all.

    Raises UserError under DeepSpeed and FSDP1.
    """
    config: RlConfig = run.config
    machine, training = run.machine, config.training
    args = training_arguments(
        training, precision=machine.precision, use_cpu=machine.use_cpu, steps_per_epoch=steps
    )
    # Asking for the device lets transformers settle devices and processes as it does for every stage.
    device = args.device
    accelerator = Accelerator(
        mixed_precision="no" if machine.precision == "fp32" else machine.precision, cpu=machine.use_cpu
    )
    check_sharding(accelerator, config)
    if accelerator.is_fsdp2:
        module = sharded(models, accelerator)
    else:
        module = accelerator.prepare_model(models.module)
    if models.reference is not None:
        models.reference.to(device)
    optimizer_class, options = Trainer.get_optimizer_cls_and_kwargs(args, models.policy)
    optimizer = optimizer_class(_groups(module, training.weight_decay), **options)
    if accelerator.is_fsdp2:
        module, _ = accelerator.prepare(module, optimizer)
        # Accelerate tells shards by their addresses, and empty ones have none.
        for group, shards in zip(optimizer.param_groups, _groups(module, training.weight_decay), strict=True):
            group["params"] = shards["params"]
    scheduler = get_scheduler(
        training.lr_scheduler_type,
        optimizer=optimizer,
        num_warmup_steps=int(args.warmup_steps),
        num_training_steps=steps,
        scheduler_specific_kwargs=dict(training.lr_scheduler_kwargs),
    )
    return UpdateTools(
        models,
        module,
        ALGORITHMS[config.options.algorithm].objective(config.options),
        optimizer,
        scheduler,
        accelerator,
        config.options,
        training.max_tokens_per_batch,
        training.max_grad_norm,
    )


def kl_controller(options: RlOptionsConfig, coefficient: float) -> AdaptiveKLController | FixedKLController:
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
