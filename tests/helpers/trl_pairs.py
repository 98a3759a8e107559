"""One training run twice, with TRL's trainers and with this package's: rows, settings, what is logged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from helpers.comparisons import random_comparison
from helpers.tiny_checkpoint import tiny_tokenizer
from torch.utils.data import DataLoader
from transformers import TrainerCallback

from hf_align.config import TrainingConfig
from hf_align.training.arguments import training_arguments
from hf_align.training.tasks import Task
from hf_align.training.trainer import AlignTrainer
from hf_align.types import ComparisonRow

ROWS, ROWS_PER_STEP, STEPS = 16, 4, 8
LEARNING_RATE = 1e-3
_SHAPES = [(6, (5, 9)), (1, (12, 3)), (11, (4, 4)), (3, (2, 15)), (8, (7, 6)), (20, (3, 10))]


def pairs() -> list[ComparisonRow]:
    """16 pairs of random tokens, seen twice, with prompts of 2 to 21 tokens and answers of 1 to 14."""
    shapes = (_SHAPES[i % len(_SHAPES)] for i in range(ROWS))
    return [random_comparison(prefix, answers, seed=i) for i, (prefix, answers) in enumerate(shapes)]


@dataclass
class Logged:
    """What one run left behind: a dictionary of metrics a step, and the trained weights by name."""

    steps: list[dict[str, float]] = field(default_factory=list)
    weights: dict[str, torch.Tensor] = field(default_factory=dict)

    def metrics(self, name: str) -> list[float]:
        return [step[name] for step in self.steps]


class _Log(TrainerCallback):
    def __init__(self, logged: Logged) -> None:
        self.logged = logged

    def on_log(self, *_: Any, logs: dict[str, float], **__: Any) -> None:
        if "grad_norm" in logs:
            self.logged.steps.append(dict(logs))


def run_trl(trainer_class: Any, config_class: Any, folder: Path, **options: Any) -> Logged:
    """``options``: ``settings`` for the configuration, the rest for the trainer."""
    logged = Logged()

    class Tokenised(trainer_class):
        """Takes rows of token ids as they are."""

        def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
            return dataset

        def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
            loss = super().compute_loss(*args, **kwargs)
            self.losses.append(loss.item())  # what is logged is rounded
            return loss

    config = config_class(
        output_dir=str(folder),
        per_device_train_batch_size=ROWS_PER_STEP,
        max_steps=STEPS,
        learning_rate=LEARNING_RATE,
        lr_scheduler_type="linear",
        weight_decay=0.01,
        max_grad_norm=1.0,
        optim="adamw_torch",
        bf16=False,
        use_cpu=True,
        gradient_checkpointing=False,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        max_length=None,
        train_sampling_strategy="sequential",
        disable_tqdm=True,
        **options.pop("settings"),
    )
    trainer = Tokenised(args=config, processing_class=tiny_tokenizer(), callbacks=[_Log(logged)], **options)
    trainer.losses = []
    trainer.train()
    for step, loss in zip(logged.steps, trainer.losses, strict=True):
        step["loss"] = loss
    logged.weights = {name: value.detach().clone() for name, value in trainer.model.named_parameters()}
    return logged


def run_ours(model: Any, task: Task, rows: Sequence[ComparisonRow], folder: Path) -> Logged:
    """The same settings; the token budget cuts each step into several micro-batches."""
    logged = Logged()

    class InOrder(AlignTrainer):
        def get_train_dataloader(self) -> DataLoader[Any]:
            return DataLoader(rows, batch_size=ROWS_PER_STEP, collate_fn=list)

    config = TrainingConfig(
        output_dir=str(folder),
        per_device_train_batch_size=ROWS_PER_STEP,
        max_steps=STEPS,
        learning_rate=LEARNING_RATE,
        lr_scheduler_type="linear",
        weight_decay=0.01,
        optim="adamw_torch",
        save_strategy="no",
        use_cpu=True,
    )
    trainer = InOrder(
        model=model,
        args=training_arguments(
            config, precision="fp32", use_cpu=True, steps_per_epoch=ROWS // ROWS_PER_STEP
        ),
        train_dataset=rows,
        max_tokens_per_batch=50,
        task=task,
        callbacks=[_Log(logged)],
    )
    trainer.train()
    logged.weights = {name: value.detach().clone() for name, value in model.named_parameters()}
    return logged


def assert_same_weights(ours: Logged, theirs: Logged, start: dict[str, torch.Tensor]) -> None:
    """Every weight, to half a hundredth of what training moved it by at most; and training moved them."""
    assert ours.weights.keys() == theirs.weights.keys() == start.keys()
    for name, first in start.items():
        moved = (theirs.weights[name] - first).abs().max().item()
        assert moved > LEARNING_RATE, name
        apart = (ours.weights[name] - theirs.weights[name]).abs().max().item()
        assert apart < 0.005 * moved, (name, apart, moved)
