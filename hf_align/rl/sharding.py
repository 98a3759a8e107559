"""Updates of a sharded policy (FSDP2): the shards are trained, and a whole copy writes answers.

Processes write answers of different lengths to different prompts, so that they cannot meet in every forward
pass. Each keeps the whole model for its rollouts, which follows the shards after every update; gradients and
optimizer states are sharded. Where nothing is sharded, both are one model and these functions do nothing.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from accelerate import DistributedType

from hf_align.errors import UserError

if TYPE_CHECKING:
    from accelerate import Accelerator

    from hf_align.rl.models import PpoModels
    from hf_align.rl.recipe import RlConfig


def check_sharding(accelerator: Accelerator, config: RlConfig) -> None:
    """Raise UserError for a way of sharding that rollouts cannot follow."""
    kind = accelerator.distributed_type
    if kind == DistributedType.DEEPSPEED or (kind == DistributedType.FSDP and not accelerator.is_fsdp2):
        raise UserError(
            f"{config.method} runs in one process, under DistributedDataParallel or under FSDP2: the whole "
            "weights that answers are written with cannot be had from DeepSpeed or FSDP1. Start it with "
            "NPROC=…, recipes/accelerate/ddp.yaml, or a file with fsdp_version: 2"
        )
    if kind != DistributedType.FSDP:
        return
    if os.environ.get("FSDP_CPU_RAM_EFFICIENT_LOADING", "false").lower() == "true":
        raise UserError(
            "fsdp_cpu_ram_efficient_loading: every process writes answers with the whole model, and "
            "this leaves the weights out of all processes but one; set it to false in Accelerate's file"
        )
    for key in ("load_in_4bit", "load_in_8bit"):
        if getattr(config.model, key):
            raise UserError(f"{key}: quantised weights are not sharded here; train without FSDP")


def sharded(models: PpoModels, accelerator: Accelerator) -> torch.nn.Module:
    """A copy of the trained module that is yet to be prepared by Accelerate, with an optimizer."""
    from torch.distributed.fsdp import MixedPrecisionPolicy

    # Autocast, not weights that were rounded: the whole model computes so, and every ratio begins at 1.
    accelerator.state.fsdp_plugin.mixed_precision_policy = MixedPrecisionPolicy()
    models.module.to(accelerator.device)
    return copy.deepcopy(models.module)


def is_sharded(module: torch.nn.Module) -> bool:
    """Whether ``module`` is one of shards, and the whole model another."""
    from torch.distributed.fsdp import FSDPModule

    return isinstance(module, FSDPModule)


def gather_weights(whole: torch.nn.Module, module: torch.nn.Module) -> None:
    """``whole`` gets the weights of ``module`` that are trained; every process has to call this."""
    for full, shard in _pairs(whole, module):
        full.copy_(shard.full_tensor())


def scatter_weights(whole: torch.nn.Module, module: torch.nn.Module) -> None:
    """The shards of ``module`` get the weights of ``whole``, which all processes have."""
    from torch.distributed.tensor import distribute_tensor

    for full, shard in _pairs(whole, module):
        # Each process cuts its own part out.
        shard.copy_(distribute_tensor(full, shard.device_mesh, shard.placements, src_data_rank=None))


def _pairs(whole: torch.nn.Module, module: torch.nn.Module) -> Iterator[tuple[torch.Tensor, Any]]:
    """Each parameter that is trained, whole and sharded; none where nothing is sharded."""
    if is_sharded(module):
        for full, shard in zip(whole.parameters(), module.parameters(), strict=True):
            if full.requires_grad:
                yield full.data, shard.detach()


def optimizer_state(optimizer: Any) -> dict[str, Any]:
    """The state of ``optimizer``, as it is where nothing is sharded; every process has to call this."""
    from torch.distributed.tensor import DTensor
    from torch.utils._pytree import tree_map_only

    state: dict[str, Any] = tree_map_only(DTensor, DTensor.full_tensor, optimizer.state_dict())
    return state


def load_optimizer_state(optimizer: Any, state: dict[str, Any]) -> None:
    """Give ``optimizer`` what :func:`optimizer_state` returned, whether its parameters are shards or not."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    # It puts its state where its parameters are.
    optimizer.load_state_dict(state)
    for shard, values in optimizer.state.items():
        if not isinstance(shard, DTensor):
            continue
        for name, value in values.items():
            if isinstance(value, torch.Tensor) and value.shape == shard.shape:
                where = (shard.device_mesh, shard.placements)
                values[name] = distribute_tensor(value, *where, src_data_rank=None)
