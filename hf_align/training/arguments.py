"""A recipe's training section as transformers.TrainingArguments."""

from __future__ import annotations

import dataclasses
import importlib.util
import math
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hf_align.config import TrainingConfig
from hf_align.config.choices.optimizers import OPTIMIZER_MODULES, PACKAGES, TRACKER_MODULES
from hf_align.errors import UserError
from hf_align.modeling.checkpointing import checkpointing_arguments

if TYPE_CHECKING:
    from transformers import TrainingArguments

    from hf_align.modeling.precision import Precision

_EXTRAS = ("tensorboard", "wandb", "trackio")
"""Trackers that the package has an extra of."""


def check_trackers(report_to: Sequence[str]) -> None:
    """Raise UserError for a tracker whose package is not installed, before anything takes time."""
    for tracker in report_to:
        if tracker == "none":
            continue
        for module in TRACKER_MODULES.get(tracker, (tracker,)):
            package = PACKAGES.get(module, module)
            extra = f" (or `pip install 'hf_align[{tracker}]'`)" if tracker in _EXTRAS else ""
            if importlib.util.find_spec(module) is None:
                raise UserError(
                    f"report_to: {tracker} is not installed; install it with `pip install {package}`{extra}, "
                    "or leave it out"
                )
        if tracker == "kubeflow" and not os.environ.get("KUBEFLOW_TRAINER_SERVER_URL"):
            raise UserError(
                "report_to: kubeflow reports to the trainer that started the job, and "
                "KUBEFLOW_TRAINER_SERVER_URL is not set; leave it out"
            )


def check_optimizer_is_there(optimizer: str) -> None:
    """Raise UserError for an optimizer whose package is not installed, before anything takes time."""
    module = OPTIMIZER_MODULES.get(optimizer)
    if module is not None and importlib.util.find_spec(module) is None:
        package = PACKAGES.get(module, module)
        raise UserError(
            f"optim: {optimizer} needs the package {package}; install it with `pip install {package}`, or "
            "take another optimizer"
        )


def rows_per_rank(config: TrainingConfig) -> int:
    """Rows that one rank contributes to an optimizer step."""
    return config.per_device_train_batch_size * config.gradient_accumulation_steps


def world_size() -> int:
    """Processes that train together; known once :func:`hf_align.runs.processes.start` has run."""
    from accelerate import PartialState

    return int(PartialState().num_processes)


def keep_outputs_precise(accelerator: Any) -> None:
    """Keep what a model returns as it is under FSDP2; Accelerate would round it to the type of the weights.

    Log-probabilities and values are computed in float32, and differences of them are what is learned from.
    """
    plugin = getattr(accelerator.state, "fsdp_plugin", None)
    if plugin is not None and accelerator.is_fsdp2 and plugin.mixed_precision_policy is not None:
        plugin.mixed_precision_policy = dataclasses.replace(plugin.mixed_precision_policy, output_dtype=None)


def _target_modules(names: Sequence[str] | None) -> str | list[str] | None:
    """As transformers takes them: ``all-linear`` is a text and no name of a layer."""
    if names is None:
        return None
    return "all-linear" if [*names] in (["all-linear"], ["all_linear"]) else [*names]


def training_arguments(
    config: TrainingConfig, *, precision: Precision, use_cpu: bool, steps_per_epoch: int | None
) -> TrainingArguments:
    """``steps_per_epoch``: optimizer steps of one epoch, or None for a stream, whose ``max_steps`` is set.

    Trainer sees one batch per optimizer step and rank; accumulation happens inside the step, by tokens. It is
    not told of NEFTune, whose noise is added once (``modeling.neftune``).
    """
    from transformers import TrainingArguments

    if config.max_steps > 0:
        total_steps = config.max_steps
    else:
        assert steps_per_epoch is not None
        total_steps = math.ceil(config.num_train_epochs * steps_per_epoch)
    warmup = config.warmup_steps
    options: dict[str, Any] = {}
    if config.torch_compile:
        options["torch_compile"] = True
    if config.gradient_checkpointing:
        options |= checkpointing_arguments()
    arguments = TrainingArguments(
        output_dir=config.output_dir,
        seed=config.seed,
        num_train_epochs=config.num_train_epochs,
        max_steps=config.max_steps,
        per_device_train_batch_size=rows_per_rank(config),
        gradient_accumulation_steps=1,
        learning_rate=config.learning_rate,
        lr_scheduler_type=config.lr_scheduler_type,
        lr_scheduler_kwargs=dict(config.lr_scheduler_kwargs),
        warmup_steps=math.ceil(warmup * total_steps) if 0 < warmup < 1 else int(warmup),
        weight_decay=config.weight_decay,
        adam_beta1=config.adam_beta1,
        adam_beta2=config.adam_beta2,
        adam_epsilon=config.adam_epsilon,
        max_grad_norm=config.max_grad_norm,
        optim=config.optim,
        optim_args=",".join(f"{name}={value}" for name, value in config.optim_args.items()) or None,
        optim_target_modules=_target_modules(config.optim_target_modules),
        bf16=precision == "bf16",
        fp16=precision == "fp16",
        use_cpu=use_cpu,
        logging_strategy="steps",
        logging_steps=config.logging_steps,
        logging_first_step=True,
        # A loss that is not a number is shown as such, not replaced by an average.
        logging_nan_inf_filter=False,
        eval_strategy=config.eval_strategy,
        eval_steps=config.eval_steps,
        save_strategy=config.save_strategy,
        save_steps=config.save_steps,
        # Older checkpoints are removed by checkpoints.CheckpointKeeper.
        save_total_limit=None,
        load_best_model_at_end=config.load_best_model_at_end,
        metric_for_best_model="eval_loss" if config.eval_strategy != "no" else None,
        greater_is_better=False if config.eval_strategy != "no" else None,
        report_to=[tracker for tracker in config.report_to if tracker != "none"],
        run_name=config.run_name,
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        disable_tqdm=True,
        **options,
    )
    if arguments.n_gpu > 1:
        # A process drives one GPU. On a machine with several, Trainer would wrap the model of a process alone
        # into DataParallel, which cuts a batch into its rows: a packed one is a single row.
        arguments._n_gpu = 1
    return arguments
