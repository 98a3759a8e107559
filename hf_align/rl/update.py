"""One update: passes over the answers of a rollout in mini-batches, each an optimizer step.

A step is a set of prompts; its loss is a mean over the sampled tokens, or the answers, of all processes. What
this leaves out: how a step is cut and made into gradients (``training.step``), and losses (``algorithms``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from hf_align.rl.algorithms.base import TOKENS, TokenObjective, is_loss
from hf_align.rl.episodes import EpisodeBatch, EpisodeRow, collate_episodes, empty_episode
from hf_align.rl.sharding import gather_weights
from hf_align.training.step import StepResult, StepTask, compute_gradients
from hf_align.types import LossOutput

if TYPE_CHECKING:
    from accelerate import Accelerator

    from hf_align.rl.algorithms.options import RlOptionsConfig
    from hf_align.rl.models import PpoModels

Numbered = tuple[int, EpisodeRow]


@dataclass(frozen=True)
class UpdateTools:
    """What every update of a run needs. ``module``: the trained module as Accelerate has wrapped it; one of
    shards is a copy, which the module of ``models`` follows (``sharding``).

    ``objective``: of the algorithm. ``max_tokens``: tokens computed at once. ``max_grad_norm``: 0 for no
    clipping.
    """

    models: PpoModels
    module: torch.nn.Module
    objective: TokenObjective
    optimizer: Any
    scheduler: Any
    accelerator: Accelerator
    options: RlOptionsConfig
    max_tokens: int
    max_grad_norm: float

    def _autocast_objective(self, module: torch.nn.Module, batch: EpisodeBatch) -> LossOutput:
        with self.accelerator.autocast():
            return self.objective(module, batch)

    def task(self, columns: Sequence[str]) -> StepTask:
        """The task of a step, on rows with these ``columns``; the objective says what it is a mean over."""
        models = self.models
        return StepTask(
            collate=partial(
                collate_episodes,
                packed=models.packed,
                share_prefix=models.shared,
                pad_token_id=models.pad_token_id,
            ),
            objective=self._autocast_objective,
            units=self.objective.units,
            filler=lambda: empty_episode(columns),
            padded=not models.packed,
            shared=models.shared,
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
    ``check_first`` gets the mean metrics of the first step before anything has moved, ``check_step`` loss and
    gradient norm of each step before it is taken.
    """
    options = tools.options
    planned = options.steps_per_rollout
    rng = np.random.default_rng(np.random.SeedSequence(list(seed)))
    total: dict[str, float] = {}
    steps, at_start = 0, 0.0
    stopped = False
    tools.module.train()
    task = tools.task(list(rows[0][1].columns))
    for _ in range(options.update_epochs):
        order = rng.permutation(prompts)
        for part in range(options.num_mini_batches):
            chosen = set(order[part :: options.num_mini_batches].tolist())
            tools.optimizer.zero_grad(set_to_none=True)
            result = compute_gradients(
                tools.module,
                [row for number, row in rows if number in chosen],
                task,
                tools.accelerator,
                max_tokens=tools.max_tokens,
            )
            metrics = step_means(result)
            if steps == 0:
                at_start = metrics["ratio_deviation"]
                checked = metrics if tools.objective.checks_clipping else metrics | {"clip_fraction": 0.0}
                check_first(checked)
            stopped = options.kl_stop is not None and metrics["approx_kl"] > options.kl_stop
            if stopped:
                break
            metrics["grad_norm"] = _gradient_norm(tools)
            check_step({name: metrics[name] for name in ("loss", "grad_norm")})
            _step(tools)
            steps += 1
            for name, value in metrics.items():
                total[name] = total.get(name, 0.0) + value
        if stopped:
            break
    tools.optimizer.zero_grad(set_to_none=True)
    gather_weights(tools.models.module, tools.module)
    for _ in range(planned - steps):
        # The schedule of the learning rate is that of the steps as planned.
        tools.scheduler.step()
    means = {name: value / max(steps, 1) for name, value in total.items()}
    means["total_loss"] = means.pop("loss", float("nan"))
    means |= {"update_steps": float(steps), "stopped_by_kl": float(stopped)}
    return means | {"ratio_deviation_at_start": at_start}


def step_means(result: StepResult) -> dict[str, float]:
    """Losses as means over the units of the objective, all other metrics as means over the sampled tokens."""
    tokens = max(1.0, result.sums[TOKENS])
    return {
        name: value / (max(1, result.units) if is_loss(name) else tokens)
        for name, value in result.sums.items()
        if name != TOKENS
    }


def _gradient_norm(tools: UpdateTools) -> float:
    """The norm before clipping."""
    limit = tools.max_grad_norm or float("inf")
    norm: Any = tools.accelerator.clip_grad_norm_(tools.module.parameters(), limit)
    return float(norm.full_tensor() if hasattr(norm, "full_tensor") else norm)


def _step(tools: UpdateTools) -> None:
    tools.optimizer.step()
    tools.scheduler.step()
    tools.optimizer.zero_grad(set_to_none=True)
