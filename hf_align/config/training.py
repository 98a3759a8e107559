"""Options of the training loop: steps, optimizer, schedule, precision, evaluation, saving, logging."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from hf_align.config import shared
from hf_align.config.choices.optimizers import LOW_RANK, Optimizer, Tracker, check_optimizer
from hf_align.config.fields import option
from hf_align.config.group import Group, KeyProblem, with_home
from hf_align.config.schedules import Schedule, check_schedule_arguments

_BY_STEPS = ("steps",)


@dataclass(frozen=True)
class TrainingConfig(Group):
    """The training loop. Names are those of transformers' TrainingArguments where it has one."""

    title: ClassVar[str] = "Training"

    output_dir: str = shared.output_dir("runs/sft")
    seed: int = option(42, ge=0, le=2**32 - 1, help="seed of everything that is random")
    num_train_epochs: float = option(1.0, gt=0, help="passes over the data")
    max_steps: int = option(-1, ge=-1, help="optimizer steps; above 0 it takes the place of num_train_epochs")
    per_device_train_batch_size: int = option(
        8,
        ge=1,
        help="rows a device and accumulation step; rows of one optimizer step: times the next, "
        "times the devices",
        changes="step_rows",
    )
    gradient_accumulation_steps: int = option(
        1, ge=1, help="multiplies the rows of an optimizer step", changes="step_rows"
    )
    max_tokens_per_batch: int = option(4096, ge=1, help="tokens computed at once", changes="rounding")
    learning_rate: float = option(2e-5, gt=0, help="peak learning rate")
    lr_scheduler_type: Schedule = option("cosine", help="learning-rate schedule")
    lr_scheduler_kwargs: dict[str, int | float | str] = option(
        factory=dict, help="arguments of the schedule, for example {min_lr_rate: 0.1}"
    )
    warmup_steps: float = option(
        0.0, ge=0, help="steps in which the learning rate rises from 0; below 1: a share of all steps"
    )
    weight_decay: float = option(0.0, ge=0, help="decoupled weight decay")
    adam_beta1: float = option(0.9, ge=0, lt=1, help="Adam's decay of the first moment")
    adam_beta2: float = option(0.999, ge=0, lt=1, help="Adam's decay of the second moment")
    adam_epsilon: float = option(1e-8, gt=0, help="Adam's epsilon")
    max_grad_norm: float = option(1.0, ge=0, help="gradients are clipped to this norm; 0: not at all")
    optim: Optimizer = option(
        "adamw_torch_fused", help="optimizer, by transformers' names; 8-bit and paged: those of bitsandbytes"
    )
    optim_args: dict[str, int | float | str | bool] = option(
        factory=dict,
        help="arguments of the optimizer, for example {momentum: 0.9}",
        later=True,
    )
    optim_target_modules: list[str] | None = option(
        None,
        help="layers whose gradients GaLore or APOLLO projects, by parts of their names, or all-linear",
        non_empty=True,
        one_or_list=True,
        needs=("optim", LOW_RANK),
        later=True,
    )
    gradient_checkpointing: bool = option(
        False,
        help="recompute activations in the backward pass: less memory, about a third slower",
        changes="speed",
    )
    neftune_noise_alpha: float | None = option(
        None, gt=0, help="noise on the embeddings while training (NEFTune), for example 5"
    )
    torch_compile: bool = option(False, help="compile the model with torch.compile", changes="rounding")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = option(
        "auto",
        help="number format of the computation; auto: bf16 where the hardware is fast in it",
        changes="machine",
    )
    use_cpu: bool = option(
        False, help="train on the CPU even where there is an accelerator", changes="machine"
    )
    logging_steps: int = option(1, ge=1, help="a line of metrics every so many steps", changes="outputs")
    eval_strategy: Literal["no", "steps", "epoch"] = option("no", help="when to evaluate")
    eval_steps: int | None = option(
        None, ge=1, help="evaluate every so many steps", needs=("eval_strategy", _BY_STEPS)
    )
    save_strategy: Literal["no", "steps", "epoch"] = option(
        "epoch", help="when to save a checkpoint", changes="outputs"
    )
    save_steps: int = option(
        500, ge=1, help="save every so many steps", needs=("save_strategy", _BY_STEPS), changes="outputs"
    )
    save_total_limit: int | None = option(2, ge=1, help="checkpoints kept; null: all", changes="outputs")
    load_best_model_at_end: bool = option(
        False, help="keep the checkpoint with the lowest evaluation loss, and end with it"
    )
    early_stopping_patience: int | None = option(
        None, ge=1, help="stop after so many evaluations without a lower loss"
    )
    report_to: list[Tracker] = option(
        factory=list,
        help="trackers that get the metrics as well, by transformers' names",
        one_or_list=True,
        changes="outputs",
    )
    run_name: str | None = option(
        None, help="name of the run in the trackers", non_empty=True, changes="place", text=True
    )
    resume_from_checkpoint: str | None = option(
        None,
        help="a checkpoint folder, or auto: the last one in output_dir, if any",
        non_empty=True,
        changes="resuming",
    )
    force_resume: bool = option(
        False, help="resume although the data or the recipe have changed", changes="resuming"
    )

    def check(self) -> None:
        for name in ("output_dir", "resume_from_checkpoint"):
            object.__setattr__(self, name, with_home(getattr(self, name)))
        if self.max_steps == 0:
            raise KeyProblem(("max_steps",), "found 0, expected at least 1, or -1 for no limit.")
        if self.warmup_steps > 1 and not self.warmup_steps.is_integer():
            raise KeyProblem(
                ("warmup_steps",),
                f"found {self.warmup_steps:g}, expected a whole number of steps or a share below 1.",
            )
        check_schedule_arguments(
            self.lr_scheduler_type, self.lr_scheduler_kwargs, self.warmup_steps, self.learning_rate
        )
        check_optimizer(self.optim, self.optim_args, self.optim_target_modules)
        if self.use_cpu and self.precision == "fp16":
            raise KeyProblem(
                ("precision", "use_cpu"), "fp16 training needs a GPU; on a CPU use auto, fp32 or bf16."
            )
        if "none" in self.report_to and len(self.report_to) > 1:
            raise KeyProblem(("report_to",), "'none' cannot stand beside a tracker.")
        if self.force_resume and self.resume_from_checkpoint is None:
            raise KeyProblem(
                ("force_resume", "resume_from_checkpoint"),
                "nothing is resumed; set resume_from_checkpoint to auto or to a checkpoint folder.",
            )
        self._check_evaluation()

    def _check_evaluation(self) -> None:
        if self.eval_strategy == "steps" and self.eval_steps is None:
            raise KeyProblem(("eval_strategy", "eval_steps"), "'steps' needs a number of eval_steps.")
        if self.eval_strategy == "no":
            for key, given in (
                ("early_stopping_patience", self.early_stopping_patience is not None),
                ("load_best_model_at_end", self.load_best_model_at_end),
            ):
                if given:
                    raise KeyProblem(
                        (key, "eval_strategy"), "there is no evaluation; set eval_strategy to steps or epoch."
                    )
        if not self.load_best_model_at_end:
            return
        if self.save_strategy != self.eval_strategy:
            raise KeyProblem(
                ("load_best_model_at_end", "save_strategy", "eval_strategy"),
                f"only a checkpoint that was evaluated can be kept as the best, but save_strategy is "
                f"'{self.save_strategy}' and eval_strategy is '{self.eval_strategy}'; make them equal.",
            )
        if self.eval_strategy == "steps" and self.eval_steps and self.save_steps % self.eval_steps:
            raise KeyProblem(
                ("load_best_model_at_end", "save_steps", "eval_steps"),
                f"save_steps ({self.save_steps}) must be a multiple of eval_steps ({self.eval_steps}), "
                "so that every checkpoint has been evaluated.",
            )
