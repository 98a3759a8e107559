"""One update: passes over the answers of a rollout in mini-batches, each an optimizer step.

A step is a set of prompts, cut into micro-batches by the token budget; its loss is a mean over the sampled
tokens of all processes, so that the gradient does not depend on how it was cut. What this leaves out: the
losses themselves (``objectives.ppo``).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from hf_align.data.batching import split_by_tokens
from hf_align.data.packing import to_device
from hf_align.objectives.ppo import EpisodeRow, PpoObjective, collate_episodes, empty_episode

if TYPE_CHECKING:
    from accelerate import Accelerator

    from hf_align.config.ppo import PpoOptionsConfig
    from hf_align.training.ppo_models import PpoModels

Numbered = tuple[int, EpisodeRow]


@dataclass(frozen=True)
class UpdateTools:
    """What every update of a run needs. ``module``: the trained module as Accelerate has wrapped it.

    ``max_tokens``: tokens computed at once. ``max_grad_norm``: 0 for no clipping.
    """

    models: PpoModels
    module: torch.nn.Module
    optimizer: Any
    scheduler: Any
    accelerator: Accelerator
    options: PpoOptionsConfig
    max_tokens: int
    max_grad_norm: float

    @property
    def objective(self) -> PpoObjective:
        options = self.options
        return PpoObjective(
            clip_range=options.clip_range,
            clip_range_value=options.clip_range_value,
            vf_coef=options.vf_coef,
            entropy_coef=options.entropy_coef,
            temperature=options.temperature,
        )


def update(
    tools: UpdateTools,
    rows: Sequence[Numbered],
    *,
    prompts: int,
    seed: Sequence[int],
    check_first: Callable[[Mapping[str, float]], None],
    check_step: Callable[[Mapping[str, float]], None],
) -> dict[str, float]:
    """Train on this process's ``rows`` (number of the prompt in the rollout, row); returns means over steps.

    ``prompts``: those of the rollout, on all processes. ``seed`` decides the order of the mini-batches alone.
    ``check_first`` gets the mean figures of the first step before anything has moved, ``check_step`` loss and
    gradient norm of each step before it is taken.
    """
    options = tools.options
    planned = options.num_ppo_epochs * options.num_mini_batches
    rng = np.random.default_rng(np.random.SeedSequence(list(seed)))
    total: dict[str, float] = {}
    steps, at_start = 0, 0.0
    stopped = False
    tools.module.train()
    for _ in range(options.num_ppo_epochs):
        order = rng.permutation(prompts)
        for part in range(options.num_mini_batches):
            chosen = set(order[part :: options.num_mini_batches].tolist())
            figures = _gradient(tools, [row for number, row in rows if number in chosen])
            if steps == 0:
                at_start = figures["ratio_deviation"]
                check_first(figures)
            stopped = options.kl_stop is not None and figures["approx_kl"] > options.kl_stop
            if stopped:
                break
            figures["grad_norm"] = _gradient_norm(tools)
            check_step({name: figures[name] for name in ("loss", "grad_norm")})
            _step(tools)
            steps += 1
            for name, value in figures.items():
                total[name] = total.get(name, 0.0) + value
        if stopped:
            break
    tools.optimizer.zero_grad(set_to_none=True)
    for _ in range(planned - steps):
        # The course of the learning rate is that of the steps as planned.
        tools.scheduler.step()
    means = {name: value / max(steps, 1) for name, value in total.items()}
    means["total_loss"] = means.pop("loss", float("nan"))
    means |= {"update_steps": float(steps), "stopped_by_kl": float(stopped)}
    return means | {"ratio_deviation_at_start": at_start}


def _gradient(tools: UpdateTools, rows: Sequence[EpisodeRow]) -> dict[str, float]:
    """Leave the gradient of one step in the parameters; returns means over its tokens, on all processes."""
    accelerator, models = tools.accelerator, tools.models
    collate = partial(
        collate_episodes,
        packed=models.packed,
        share_prefix=models.shared,
        pad_token_id=models.pad_token_id,
    )
    layout = {"padded": not models.packed, "shared": models.shared}
    micro_batches = split_by_tokens(rows, tools.max_tokens, **layout)
    tokens = sum(len(row.old_logps) for row in rows)
    everyone = torch.tensor([[tokens, len(micro_batches)]], device=accelerator.device)
    if accelerator.num_processes > 1:
        everyone = accelerator.gather(everyone)
    # Every process runs the same number of passes: their gradients meet in the last one.
    while len(micro_batches) < int(everyone[:, 1].max()):
        micro_batches.append([empty_episode()])
    all_tokens = int(everyone[:, 0].sum())
    objective = tools.objective
    sums: dict[str, torch.Tensor] = {}
    tools.optimizer.zero_grad(set_to_none=True)
    for i, some in enumerate(micro_batches):
        last = i == len(micro_batches) - 1
        with contextlib.nullcontext() if last else accelerator.no_sync(tools.module):
            with accelerator.autocast():
                output = objective(tools.module, to_device(collate(some), accelerator.device))
            # The gradients of the processes are averaged: times their number, it is the mean over all tokens.
            accelerator.backward(output.loss_sum * (accelerator.num_processes / all_tokens))
        for name, value in {"loss": output.loss_sum.detach(), **output.metrics}.items():
            sums[name] = sums.get(name, 0.0) + value.double()
    totals = torch.stack(list(sums.values()))
    if accelerator.num_processes > 1:
        totals = accelerator.reduce(totals, reduction="sum")
    # In one transfer: each number read by itself would wait for the device.
    return dict(zip(sums, (totals / all_tokens).tolist(), strict=True))


def _gradient_norm(tools: UpdateTools) -> float:
    """The norm before clipping."""
    limit = tools.max_grad_norm or float("inf")
    return float(tools.accelerator.clip_grad_norm_(tools.module.parameters(), limit))


def _step(tools: UpdateTools) -> None:
    tools.optimizer.step()
    tools.scheduler.step()
    tools.optimizer.zero_grad(set_to_none=True)
