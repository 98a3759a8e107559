"""The training loop: transformers.Trainer with steps that are sets of rows and losses that are token sums.

Trainer sees one batch of rows per optimizer step and rank. ``training_step`` cuts it into micro-batches by
the token budget and runs them with the step-wide normalisation

    loss = (sum of the local losses) x processes / (units of the whole step on all ranks),

so that the gradient, averaged over ranks, is the gradient of the mean loss per unit (per target token, for
language modelling) of the step, however it was cut. What this module leaves out: what is trained (``tasks``),
mathematics (objectives and losses hold it) and files (callbacks write them).
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from accelerate import DistributedType
from accelerate.utils import gather_object
from torch.utils.data import DataLoader, IterableDataset
from tqdm.auto import tqdm
from transformers import Trainer

from hf_align.data.batching import StepSampler, split_by_tokens
from hf_align.data.packing import to_device
from hf_align.training.memory import peak_memory_bytes
from hf_align.training.running_sums import RunningSums
from hf_align.training.tasks import Rows, Task


@dataclass(frozen=True)
class StepPlan:
    """One rank's micro-batches of a step, as rows or as batches already, and the sums over all ranks.

    ``counts``: the units of the step, and what else the task counts.
    """

    micro_batches: list[Any]
    counts: tuple[int, ...]
    tokens: int

    @property
    def units(self) -> int:
        return self.counts[0]


class EpochDataLoader(DataLoader[Any]):
    """A DataLoader whose sampler is told the epoch."""

    def set_epoch(self, epoch: int) -> None:
        sampler: Any = self.batch_sampler
        sampler.set_epoch(epoch)


class AlignTrainer(Trainer):
    """Overrides ``get_train_dataloader``, ``get_batch_samples``, ``training_step``, ``create_scheduler``,
    ``evaluate``, ``log`` and ``floating_point_ops``, nothing else.

    ``schedule``: the factor of the learning rate at each step, in place of the schedule of the arguments.
    Rows with a ``step_sampler`` say themselves which of them make a step.
    """

    def __init__(
        self,
        *,
        task: Task,
        max_tokens_per_batch: int,
        schedule: Callable[[int], float] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(data_collator=list, **kwargs)
        self.schedule = schedule
        self.task = task
        self.max_tokens_per_batch = max_tokens_per_batch
        self.sums = RunningSums()
        self.add_callback(self.sums)
        self._evaluated: tuple[int, dict[str, float] | None] = (-1, None)
        self.evaluation_details: dict[str, Any] = {}
        """Arrays over all rows of the last evaluation, by the names of the objective's details."""

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> torch.optim.lr_scheduler.LRScheduler:
        if self.schedule is None or self.lr_scheduler is not None:
            return super().create_scheduler(num_training_steps, optimizer)
        self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer or self.optimizer, self.schedule)
        self._created_lr_scheduler = True
        return self.lr_scheduler

    def get_train_dataloader(self) -> DataLoader[Any]:
        rows = self.train_dataset
        if isinstance(rows, IterableDataset):
            return DataLoader(rows, batch_size=self.args.per_device_train_batch_size, collate_fn=list)
        if hasattr(rows, "step_sampler"):
            sampler = rows.step_sampler(rank=self.args.process_index, world_size=self.args.world_size)
            return EpochDataLoader(rows, batch_sampler=sampler, collate_fn=list)
        sampler = StepSampler(
            len(rows),
            self.args.per_device_train_batch_size * self.args.world_size,
            seed=self.args.seed,
            rank=self.args.process_index,
            world_size=self.args.world_size,
            # Where a run is resumed within an epoch, Trainer tells it to the sampler and to nothing else.
            also_tell=getattr(rows, "set_epoch", None),
        )
        # Not prepared by Accelerate: its sharding repeats or drops rows to even out the ranks.
        return EpochDataLoader(rows, batch_sampler=sampler, collate_fn=list)

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], torch.Tensor | int | None]:
        if self.control.should_training_stop:
            # A run resumed after its last step. Trainer would do one more where that lies inside an epoch.
            return [], None
        return super().get_batch_samples(epoch_iterator, num_batches, device)

    def training_step(
        self, model: torch.nn.Module, inputs: Any, num_items_in_batch: torch.Tensor | int | None = None
    ) -> torch.Tensor:
        model.train()
        if callable(getattr(self.optimizer, "train", None)):
            self.optimizer.train()
        plan = self._plan(inputs, self.max_tokens_per_batch)
        units = max(1, plan.units)
        loss = torch.zeros((), device=self.args.device)
        sums: dict[str, torch.Tensor] = {}
        for i, rows in enumerate(plan.micro_batches):
            last = i == len(plan.micro_batches) - 1
            # DeepSpeed's engine makes its optimizer step in any backward pass that is not told otherwise.
            self.accelerator.sync_gradients = last
            with contextlib.nullcontext() if last else self.accelerator.no_sync(model):
                output = self.task.objective(model, self._batch(rows, plan))
                scaled = output.loss_sum * (self.args.world_size / units)
                self.accelerator.backward(scaled, **self._backward_options)
            loss += scaled.detach()
            for name, value in output.metrics.items():
                sums[name] = sums.get(name, 0.0) + value.detach().double()
        totals = torch.stack([loss.double() / self.args.world_size, *sums.values()])
        # In one transfer: each number read by itself would wait for the device.
        mean_loss, *metrics = self._sum_over_ranks(totals)
        summed = dict(zip(sums, metrics, strict=True))
        if self.task.check_first_step is not None and self.state.global_step == 0:
            self.task.check_first_step({name: value / units for name, value in summed.items()})
        self.sums.add(loss=mean_loss, steps=1, tokens=plan.tokens, units=plan.units)
        self.sums.add_metrics(summed)
        return torch.full_like(loss, mean_loss)

    @property
    def _backward_options(self) -> dict[str, Any]:
        # The loss is that of the whole step already; DeepSpeed would divide it by its own accumulation steps.
        deepspeed = self.accelerator.distributed_type == DistributedType.DEEPSPEED
        return {"scale_wrt_gas": False} if deepspeed else {}

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Mean loss per unit over all rows (not the mean of batch means), and the task's own figures."""
        rows = list(self.eval_dataset if eval_dataset is None else eval_dataset)
        mine = rows[self.args.process_index :: self.args.world_size]
        plan = self._plan(mine, self.max_tokens_per_batch, evaluating=True)
        model = self.model
        was_training = model.training
        model.eval()
        counted = 0
        sums: dict[str, float] = {}
        details: dict[str, list[torch.Tensor]] = {}
        with torch.no_grad(), self.accelerator.autocast():
            for micro_batch in self._watched(plan.micro_batches, "evaluating"):
                output = self.task.objective(model, self._batch(micro_batch, plan))
                counted += output.count
                for name, value in {"loss": output.loss_sum, **output.metrics}.items():
                    sums[name] = sums.get(name, 0.0) + value.item()
                for name, values in output.details.items():
                    details.setdefault(name, []).append(values.cpu())
        model.train(was_training)
        totals = self._sum_over_ranks(torch.tensor([counted, *sums.values()], dtype=torch.float64))
        units = plan.units if self.task.counts is None else max(1, int(totals[0]))
        sums = dict(zip(sums, totals[1:], strict=True))
        self.evaluation_details = self._gather_details(details)
        figures = self.task.eval_metrics(sums.pop("loss") / units, units, sums, self.evaluation_details)
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in figures.items()}
        self._evaluated = (self.state.global_step, dict(metrics))
        # A copy: Trainer adds the epoch to what it logs.
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def forget_evaluation(self) -> None:
        """The weights are no longer those that were evaluated last."""
        self._evaluated = (-1, None)

    def last_evaluation(self) -> dict[str, float] | None:
        """The figures of an evaluation of the weights as they are after training, if there was one."""
        step, metrics = self._evaluated
        # The best checkpoint's weights are not those of the last step.
        return None if self.args.load_best_model_at_end or step != self.state.global_step else metrics

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs:
            interval = self.sums.interval
            # Trainer's own mean leaves out the steps before a checkpoint that the run was resumed from.
            logs["loss"] = interval["loss"] / interval["steps"]
            logs[self.task.unit_name] = interval["units"]
            if self.task.train_metrics is not None:
                logs |= self.task.train_metrics(self.sums.metrics, int(interval["units"]))
            logs["tokens_per_second"] = interval["tokens"] / max(interval["seconds"], 1e-9)
            logs["peak_memory_bytes"] = peak_memory_bytes(self.args.device)
            self.sums.start_interval()
        super().log(logs, start_time)

    def peak_memory_bytes(self) -> int:
        """Peak of this process so far."""
        return peak_memory_bytes(self.args.device)

    def floating_point_ops(self, inputs: Any) -> int:
        """6 per parameter and token (arXiv 2001.08361, table 1), on this rank."""
        parameters = sum(p.numel() for p in self.model.parameters())
        return 6 * parameters * sum(len(row) for row in inputs)

    def _batch(self, rows: Any, plan: StepPlan) -> Any:
        if not isinstance(rows, list):
            return to_device(
                self.task.weigh(rows, plan.counts) if self.task.weigh else rows, self.args.device
            )
        return to_device(self.task.collate(rows), self.args.device)

    def _plan(self, rows: Rows, max_tokens: int, *, evaluating: bool = False) -> StepPlan:
        # All batches of an evaluation at once could be large, and nothing is divided before its end.
        collated = self.task.counts is not None and not evaluating
        micro_batches: list[Any] = split_by_tokens(
            rows, max_tokens, padded=self.task.padded, shared=self.task.shared
        )
        if collated:
            micro_batches = [self.task.collate(part) for part in micro_batches or [[self.task.filler()]]]
            counts = np.sum([self.task.counts(batch) for batch in micro_batches], axis=0).tolist()
        else:
            counts = [0 if self.task.counts else sum(self.task.units(row) for row in rows)]
        mine = [*counts, sum(len(row) for row in rows), len(micro_batches)]
        everyone = np.array([mine])
        if self.args.world_size > 1:
            gathered = self.accelerator.gather(torch.tensor([mine], device=self.args.device))
            everyone = gathered.cpu().numpy()
        # Every rank runs the same number of forward passes: sharded models meet in each of them.
        while len(micro_batches) < everyone[:, -1].max():
            filler = [self.task.filler()]
            micro_batches.append(self.task.collate(filler) if collated else filler)
        *counts, tokens, _ = everyone.sum(axis=0).tolist()
        return StepPlan(micro_batches, tuple(counts), tokens)

    def _gather_details(self, details: dict[str, list[torch.Tensor]]) -> dict[str, Any]:
        """One array a name, over all rows of all ranks."""
        mine = {name: torch.cat(values).float().numpy() for name, values in details.items()}
        if self.args.world_size == 1:
            return mine
        everyone = gather_object([mine])
        return {name: np.concatenate([part[name] for part in everyone]) for name in mine}

    def _watched(self, micro_batches: list[list[Any]], what: str) -> Iterable[list[Any]]:
        return tqdm(micro_batches, desc=what, leave=False, disable=not self.is_world_process_zero())

    def _sum_over_ranks(self, values: torch.Tensor) -> list[float]:
        if self.args.world_size > 1:
            values = self.accelerator.gather(values.unsqueeze(0).to(self.args.device)).sum(dim=0)
        result: list[float] = values.tolist()
        return result


def steps_per_epoch(rows: int, rows_per_step: int) -> int:
    """Optimizer steps of an epoch, the last of which may have fewer rows."""
    return math.ceil(rows / rows_per_step)
