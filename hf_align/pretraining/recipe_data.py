"""Options of the text of pre-training, and of a schedule of stages that go through it in different ways."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from hf_align.config import shared
from hf_align.config.data import DatasetConfig
from hf_align.config.fields import option
from hf_align.config.group import Group, KeyProblem
from hf_align.config.training import TrainingConfig
from hf_align.errors import did_you_mean


@dataclass(frozen=True)
class PretrainDataConfig(Group):
    """Text for training and evaluation. Relative paths start at the working directory, not at the recipe."""

    title: ClassVar[str] = "Data"

    datasets: list[DatasetConfig] = option(
        help="training text: paths, or mappings as described at the end",
        non_empty=True,
        one_or_list=True,
        changes="inputs",
    )
    eval_datasets: list[DatasetConfig] = option(
        factory=list, help="evaluation text, in the same form", one_or_list=True, changes="inputs"
    )
    eval_split_size: float = option(
        0.0,
        ge=0,
        help="documents held out of the training text for evaluation; below 1: a share of them",
        changes="inputs",
    )
    mixture_exponent: float = option(
        1.0,
        gt=0,
        le=1,
        help="below 1: small data sets are over-sampled (share ~ size^exponent)",
        changes="inputs",
    )
    streaming: bool = option(
        False, help="read the text while training instead of before; needs max_steps", changes="inputs"
    )
    shuffle_buffer_size: int = option(
        1000,
        ge=1,
        help="documents among which a stream is shuffled, and blocks among which it is again",
        needs=("streaming", (True,)),
        changes="inputs",
    )
    drop_duplicates: bool = shared.drop_duplicates()
    block_length: int = option(128, ge=8, help="tokens of a block: of a decoder's row, or of an encoder's")
    packing: bool = option(
        True, help="documents follow each other until a block is full; false: each begins a block of its own"
    )
    isolate_documents: bool = option(
        True,
        help="causal: a document does not see the one before it in its block",
        needs=("packing", (True,)),
    )
    dataset_num_proc: int | None = shared.dataset_num_proc()
    dataset_cache: bool = option(
        True, help="keep tokenised text on disk for the next run with the same data", changes="speed"
    )
    dataset_cache_dir: str | None = shared.dataset_cache_dir()
    max_malformed_share: float = shared.max_malformed_share()

    def check(self) -> None:
        if self.eval_split_size > 1 and not self.eval_split_size.is_integer():
            raise KeyProblem(
                ("eval_split_size",),
                f"found {self.eval_split_size:g}, expected a share below 1 or a whole number of documents.",
            )
        if self.streaming and 0 < self.eval_split_size < 1:
            raise KeyProblem(
                ("eval_split_size", "streaming"),
                "the share of a stream is unknown before its end; give a whole number of documents.",
            )
        if self.streaming and self.drop_duplicates:
            raise KeyProblem(("drop_duplicates", "streaming"), "a stream does not know the texts before it.")
        if self.streaming and self.mixture_exponent != 1:
            raise KeyProblem(
                ("mixture_exponent", "streaming"),
                "the sizes of streamed data sets are unknown; set each 'weight' instead.",
            )


@dataclass(frozen=True)
class StageConfig(Group):
    """One stage of a schedule; an entry of ``stages``. What it leaves out is as in the rest of the recipe."""

    title: ClassVar[str] = "Entries of stages"

    steps: int = option(help="optimizer steps", ge=1)
    block_length: int | None = option(None, ge=8, help="tokens of a block")
    per_device_train_batch_size: int | None = option(None, ge=1, help="rows a device and accumulation step")
    learning_rate: float | None = option(None, gt=0, help="peak learning rate")
    lr_scheduler_type: Literal["linear", "cosine", "constant", "inverse_sqrt"] | None = option(
        None, help="learning-rate schedule over the stage"
    )
    warmup_steps: float | None = option(
        None,
        ge=0,
        help="steps in which it rises from 0; null: those of the recipe in the first stage, else 0",
    )
    weights: dict[str, float] = option(
        factory=dict, help="weights of data sets by path; 0 leaves one out of the stage"
    )


@dataclass(frozen=True)
class StagesConfig(Group):
    """A schedule of stages; without one the run is a single stage."""

    title: ClassVar[str] = "Stages"

    stages: list[StageConfig] = option(
        factory=list, help="stages that follow each other, as mappings that are described at the end"
    )


def check_stages(stages: Sequence[StageConfig], data: PretrainDataConfig, training: TrainingConfig) -> None:
    """Raise :class:`KeyProblem` where stages do not fit the rest of the recipe."""
    if not stages:
        return
    total = sum(stage.steps for stage in stages)
    if training.max_steps not in (-1, total):
        raise KeyProblem(
            ("max_steps", "stages"),
            f"the stages have {total} steps, and max_steps is {training.max_steps}; remove max_steps.",
        )
    if data.streaming:
        raise KeyProblem(
            ("stages", "streaming"), "stages are cut from prepared text; set streaming to false."
        )
    if any(stage.lr_scheduler_type is None for stage in stages) and training.lr_scheduler_type not in (
        "linear",
        "cosine",
        "constant",
        "constant_with_warmup",
        "inverse_sqrt",
    ):
        raise KeyProblem(
            ("stages", "lr_scheduler_type"),
            f"a stage cannot follow {training.lr_scheduler_type}; give each stage an lr_scheduler_type: "
            "linear, cosine, constant or inverse_sqrt.",
        )
    paths = [dataset.path for dataset in data.datasets]
    for number, stage in enumerate(stages, start=1):
        for path, weight in stage.weights.items():
            if path not in paths:
                raise KeyProblem(
                    ("stages",),
                    f"entry {number}: weights: '{path}' is none of the datasets: {', '.join(paths)}."
                    f"{did_you_mean(path, paths)}",
                )
            if weight < 0:
                raise KeyProblem(
                    ("stages",),
                    f"entry {number}: weights: {path}: found {weight:g}, expected at least 0.",
                )
        if not any(stage.weights.get(path, 1.0) for path in paths):
            raise KeyProblem(("stages",), f"entry {number}: weights: no data set is left to train on.")
