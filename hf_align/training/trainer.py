"""The training loop: transformers.Trainer with steps that are sets of rows and losses that are token sums.

Trainer sees one batch of rows per optimizer step and rank, from which ``step`` makes gradients. What this
module leaves out: what is trained (``tasks``) and files (callbacks write them).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch
from accelerate.utils import gather_object
from torch.utils.data import DataLoader, IterableDataset
from tqdm.auto import tqdm
from transformers import Trainer

from hf_align.data.batching import StepSampler
from hf_align.runs.memory import peak_memory_bytes
from hf_align.training.running_sums import RunningSums
from hf_align.training.step import (
    compute_gradients,
    micro_batch,
    plan_step,
    sum_over_processes,
    survey_step,
)
from hf_align.training.tasks import Task


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
        result = compute_gradients(
            model, inputs, self.task, self.accelerator, max_tokens=self.max_tokens_per_batch
        )
        if self.task.check_first_step is not None and self.state.global_step == 0:
            self.task.check_first_step(result.means)
        self.sums.add(loss=result.loss, steps=1, tokens=result.tokens, units=result.units)
        self.sums.add_metrics(result.sums)
        return torch.tensor(result.loss, device=self.args.device)

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Mean loss per unit over all rows (not the mean of batch means), and the task's own metrics."""
        rows = list(self.eval_dataset if eval_dataset is None else eval_dataset)
        mine = rows[self.args.process_index :: self.args.world_size]
        accelerator = self.accelerator
        model, budget = self.model, self.max_tokens_per_batch
        plan = plan_step(model, mine, self.task, accelerator, max_tokens=budget, evaluating=True)
        was_training = model.training
        model.eval()
        counted = 0
        sums: dict[str, float] = {}
        details: dict[str, list[torch.Tensor]] = {}
        with torch.no_grad(), accelerator.autocast():
            surveyed = survey_step(model, plan, self.task, accelerator)
            for some in self._watched(plan.micro_batches, "evaluating"):
                batch = micro_batch(some, self.task, plan, accelerator.device, surveyed)
                output = self.task.objective(model, batch)
                counted += output.count
                for name, value in {"loss": output.loss_sum, **output.metrics}.items():
                    sums[name] = sums.get(name, 0.0) + value.item()
                for name, values in output.details.items():
                    details.setdefault(name, []).append(values.cpu())
        model.train(was_training)
        totals = torch.tensor([counted, *sums.values()], dtype=torch.float64)
        counted, *summed = sum_over_processes(totals, accelerator)
        units = plan.units if self.task.counts is None else max(1, int(counted))
        sums = dict(zip(sums, summed, strict=True))
        self.evaluation_details = self._gather_details(details)
        task_metrics = self.task.eval_metrics(sums.pop("loss") / units, units, sums, self.evaluation_details)
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in task_metrics.items()}
        self._evaluated = (self.state.global_step, dict(metrics))
        # A copy: Trainer adds the epoch to what it logs.
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def forget_evaluation(self) -> None:
        """The weights are no longer those that were evaluated last."""
        self._evaluated = (-1, None)

    def last_evaluation(self) -> dict[str, float] | None:
        """The metrics of an evaluation of the weights as they are after training, if there was one."""
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

    def _gather_details(self, details: dict[str, list[torch.Tensor]]) -> dict[str, Any]:
        """One array a name, over all rows of all ranks."""
        mine = {name: torch.cat(values).float().numpy() for name, values in details.items()}
        if self.args.world_size == 1:
            return mine
        everyone = gather_object([mine])
        return {name: np.concatenate([part[name] for part in everyone]) for name in mine}

    def _watched(self, micro_batches: list[list[Any]], what: str) -> Iterable[list[Any]]:
        return tqdm(micro_batches, desc=what, leave=False, disable=not self.is_world_process_zero())


def steps_per_epoch(rows: int, rows_per_step: int) -> int:
    """Optimizer steps of an epoch, the last of which may have fewer rows."""
    return math.ceil(rows / rows_per_step)
