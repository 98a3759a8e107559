"""One optimizer step: rows, cut into micro-batches, to gradients of the parameters and summed metrics.

The loss of a step is

    loss = (sum of the local losses) x processes / (units of the whole step on all processes),

so that the gradient, averaged over processes, is the gradient of the mean loss per unit of the step (per
target token, for language modelling), however it was cut. Every training loop takes its steps here. What this
leaves out: which rows make a step, the optimizer, and what is trained (objectives and losses hold it).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from accelerate import DistributedType
from accelerate.utils import gather_object

from hf_align.data.batching import split_by_tokens
from hf_align.data.packing import to_device
from hf_align.modeling.lengths_apart import lengths_apart
from hf_align.training.router_loss import RouterLoss, router_loss
from hf_align.types import LossOutput

if TYPE_CHECKING:
    from accelerate import Accelerator

Rows = Sequence[Any]
"""Rows of one kind: TokenizedRow, ComparisonRow, PretrainingRow or EpisodeRow."""


@dataclass(frozen=True, kw_only=True)
class StepTask:
    """What a step needs to know: how rows become a batch, what is computed on it, what it is divided by.

    ``collate``: rows to one micro-batch, a dataclass of tensors. ``objective``: (model, batch) to summed
    losses. ``units``: how many units (target tokens, prompts) a row has, a fraction where they are weighed.
    ``filler``: a row that adds nothing to any loss, for a process that has none left. ``padded``: whether a
    micro-batch costs its padding; ``shared``: whether it holds each prompt once.

    ``counts``, where only a batch says what counts (noise decides it): of a batch, its units first and what
    else a step is to be told. Then all batches of a step are made before the first is computed, and ``weigh``
    gives each of them the counts of the whole step on all processes.

    ``survey``, where the loss of each row depends on something that all rows of the step say together:
    (model, batch) to (n, k) values, n of them for the rows of the batch. It is run without gradients, in
    evaluation mode, on all micro-batches before the first loss; ``inform`` gives each batch those of the
    whole step on all processes.
    """

    collate: Callable[[Rows], Any]
    objective: Callable[[torch.nn.Module, Any], LossOutput]
    units: Callable[[Any], float]
    filler: Callable[[], Any]
    counts: Callable[[Any], Sequence[int]] | None = None
    weigh: Callable[[Any, Sequence[float]], Any] | None = None
    survey: Callable[[torch.nn.Module, Any], torch.Tensor] | None = None
    inform: Callable[[Any, torch.Tensor], Any] | None = None
    padded: bool = False
    shared: bool = True


@dataclass(frozen=True)
class StepPlan:
    """One process's micro-batches of a step, as rows or as batches already, and the sums over all processes.

    ``counts``: the units of the step, and what else the task counts. ``own``: how many micro-batches hold
    rows of this process; those behind them are filler.
    """

    micro_batches: list[Any]
    counts: tuple[float, ...]
    tokens: int
    own: int

    @property
    def units(self) -> float:
        return self.counts[0]


@dataclass(frozen=True)
class StepResult:
    """What a step came to on all processes: ``loss`` per unit, and ``sums`` of the objective's metrics over
    its ``units``. ``tokens``: those that were computed, prompts included."""

    loss: float
    sums: dict[str, float]
    units: float
    tokens: int

    @property
    def means(self) -> dict[str, float]:
        """The metrics per unit."""
        return {name: value / (self.units or 1) for name, value in self.sums.items()}


def plan_step(
    model: torch.nn.Module,
    rows: Rows,
    task: StepTask,
    accelerator: Accelerator,
    *,
    max_tokens: int,
    evaluating: bool = False,
) -> StepPlan:
    """Cut this process's ``rows`` into micro-batches of ``max_tokens``; every process has to call this.

    ``model``: what computes them. ``evaluating``: rows stay rows, and units that only batches know are left
    at 0.
    """
    # All batches of an evaluation at once could be large, and nothing is divided before its end.
    collated = task.counts is not None and not evaluating
    apart = lengths_apart(model, padded=task.padded)
    layout = {"padded": task.padded, "shared": task.shared}
    micro_batches: list[Any] = split_by_tokens(rows, max_tokens, **layout, apart=apart)
    if collated:
        micro_batches = [task.collate(part) for part in micro_batches or [[task.filler()]]]
        counts = np.sum([task.counts(batch) for batch in micro_batches], axis=0).tolist()
    else:
        counts = [0 if task.counts else sum(task.units(row) for row in rows)]
    mine = [*counts, sum(len(row) for row in rows), len(micro_batches)]
    everyone = np.array([mine], dtype=np.float64)
    if accelerator.num_processes > 1:
        gathered = accelerator.gather(torch.tensor([mine], dtype=torch.float64, device=accelerator.device))
        everyone = gathered.cpu().numpy()
    own = len(micro_batches) if len(rows) else 0
    # Every process runs the same number of passes: sharded models meet in each, gradients in the last.
    while len(micro_batches) < everyone[:, -1].max():
        filler = [task.filler()]
        micro_batches.append(task.collate(filler) if collated else filler)
    # Weights make fractions; what is counted stays a whole number.
    *counts, tokens, _ = (int(n) if n.is_integer() else n for n in everyone.sum(axis=0).tolist())
    return StepPlan(micro_batches, tuple(counts), int(tokens), own)


def micro_batch(
    rows: Any,
    task: StepTask,
    plan: StepPlan,
    device: torch.device,
    surveyed: torch.Tensor | None = None,
) -> Any:
    """One of the plan's micro-batches as a batch on the device. ``surveyed``: from :func:`survey_step`."""
    if isinstance(rows, list):
        batch = task.collate(rows)
    else:
        batch = task.weigh(rows, plan.counts) if task.weigh else rows
    batch = to_device(batch, device)
    return batch if surveyed is None or task.inform is None else task.inform(batch, surveyed)


def survey_step(
    model: torch.nn.Module, plan: StepPlan, task: StepTask, accelerator: Accelerator
) -> torch.Tensor | None:
    """(N, k) float64: what the survey of the task finds in the whole step; None where it has none.

    Every process has to call this: sharded models meet in each of its passes.
    """
    if task.survey is None:
        return None
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            found = [
                task.survey(model, micro_batch(some, task, plan, accelerator.device)).double()
                for some in plan.micro_batches
            ]
    finally:
        model.train(training)
    values = torch.cat(found)
    if accelerator.num_processes > 1:
        everyone = gather_object([values.cpu().numpy()])
        values = torch.from_numpy(np.concatenate(everyone)).to(accelerator.device)
    return values


def compute_gradients(
    model: torch.nn.Module, rows: Rows, task: StepTask, accelerator: Accelerator, *, max_tokens: int
) -> StepResult:
    """Add the gradient of one step to those of the parameters; every process has to call this.

    ``model``: as Accelerate has wrapped it. ``rows``: this process's share, which may be empty.
    """
    plan = plan_step(model, rows, task, accelerator, max_tokens=max_tokens)
    units, processes = plan.units or 1, accelerator.num_processes
    # The loss is that of the whole step already; DeepSpeed would divide it by its own accumulation steps.
    options = {"scale_wrt_gas": False} if accelerator.distributed_type == DistributedType.DEEPSPEED else {}
    loss = torch.zeros((), device=accelerator.device)
    sums: dict[str, torch.Tensor] = {}
    surveyed = survey_step(model, plan, task, accelerator)

    def compute(some: Any) -> LossOutput:
        return task.objective(model, micro_batch(some, task, plan, accelerator.device, surveyed))

    router = router_loss(model)
    if router is not None:
        routed = _survey_routers(router, model, plan, compute, accelerator)
    for i, some in enumerate(plan.micro_batches):
        last = i == len(plan.micro_batches) - 1
        # DeepSpeed's engine makes its optimizer step in any backward pass that is not told otherwise.
        accelerator.sync_gradients = last
        with contextlib.nullcontext() if last else accelerator.no_sync(model):
            with contextlib.nullcontext() if router is None else router.watching() as seen:
                output = compute(some)
            scaled = output.loss_sum * (processes / units)
            if router is not None and seen is not None and i < plan.own:
                # Where it was not counted before, this is all of the step.
                balance = router.part(seen, seen.totals if routed is None else routed) * processes
                scaled = scaled + balance
                sums["router_loss"] = sums.get("router_loss", 0.0) + balance.detach().double() * (
                    units / processes
                )
            accelerator.backward(scaled, **options)
        loss += scaled.detach()
        for name, value in output.metrics.items():
            sums[name] = sums.get(name, 0.0) + value.detach().double()
    # In one transfer: each number read by itself would wait for the device.
    totals = torch.stack([loss.double() / processes, *sums.values()])
    mean_loss, *metrics = sum_over_processes(totals, accelerator)
    return StepResult(mean_loss, dict(zip(sums, metrics, strict=True)), plan.units, plan.tokens)


def _survey_routers(
    router: RouterLoss,
    model: torch.nn.Module,
    plan: StepPlan,
    compute: Callable[[Any], LossOutput],
    accelerator: Accelerator,
) -> torch.Tensor | None:
    """What the routers choose in the whole step; None where a single pass shows it all."""
    if len(plan.micro_batches) == 1 and accelerator.num_processes == 1:
        return None
    training = model.training
    model.eval()
    try:
        with accelerator.no_sync(model):
            passes = [(partial(compute, some), i < plan.own) for i, some in enumerate(plan.micro_batches)]
            found = router.survey(passes)
    finally:
        model.train(training)
    return torch.tensor(sum_over_processes(found, accelerator), device=found.device)


def sum_over_processes(values: torch.Tensor, accelerator: Accelerator) -> list[float]:
    """The sums of (N,) ``values`` over all processes."""
    if accelerator.num_processes > 1:
        values = accelerator.gather(values.unsqueeze(0).to(accelerator.device)).sum(dim=0)
    result: list[float] = values.tolist()
    return result
