"""The parts of the training loop that rejection-sampling fine-tuning has, a round at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from hf_align.config import shared
from hf_align.config.fields import option, specs_of
from hf_align.config.group import KeyProblem
from hf_align.config.training import TrainingConfig

_NOT_HERE = {
    "eval_strategy": "held-out prompts are answered after every round",
    "eval_steps": "held-out prompts are answered after every round",
    "load_best_model_at_end": "the model of every round is compared in the report, and the last one is kept",
    "early_stopping_patience": "there is no evaluation loss",
    "torch_compile": "sequences of every length would be compiled anew",
    "resume_from_checkpoint": "a run goes on by itself (resume)",
    "force_resume": "a run that differs begins anew with resume: false",
}


@dataclass(frozen=True)
class RaftTrainingConfig(TrainingConfig):
    """Where a run is written, and with ``train: true`` how each round is trained."""

    title: ClassVar[str] = "Output, and the training of a round"

    output_dir: str = shared.output_dir("runs/best_of_n", help="folder for the answers and the report")
    use_cpu: bool = shared.use_cpu()
    num_train_epochs: float = option(1.0, gt=0, help="passes over the kept answers, in each round")
    learning_rate: float = option(2e-5, gt=0, help="peak learning rate; each round starts its schedule again")
    save_strategy: Literal["no", "steps", "epoch"] = option(
        "no",
        help="when to save a checkpoint within the training of a round, which otherwise begins anew where it "
        "was cut off; Ctrl-C saves one in any case",
        changes="outputs",
    )
    save_total_limit: int | None = option(
        2,
        ge=1,
        help="rounds whose model is kept, and checkpoints within a round; null: all",
        changes="outputs",
    )

    def check(self) -> None:
        specs = specs_of(type(self))
        for key, instead in _NOT_HERE.items():
            if getattr(self, key) != specs[key].default:
                raise KeyProblem((key,), f"this has no effect here: {instead}; remove it.")
        super().check()
