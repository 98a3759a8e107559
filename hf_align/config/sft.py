"""The recipe of supervised fine-tuning: its groups, and the checks between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from hf_align.config.adapter import AdapterConfig
from hf_align.config.adapter_checks import check_adapter
from hf_align.config.data import DataConfig
from hf_align.config.group import KeyProblem, Recipe
from hf_align.config.loader import load_config
from hf_align.config.model import ModelConfig
from hf_align.config.pretrain_data import PretrainDataConfig
from hf_align.config.samples import SamplesConfig
from hf_align.config.training import TrainingConfig


def check_trainable_weights(model: ModelConfig, adapter: AdapterConfig) -> None:
    """Raise :class:`KeyProblem` where all weights would be trained in a format that cannot be trained."""
    if adapter.adapter != "none":
        return
    for key, quantised in (("load_in_4bit", model.load_in_4bit), ("load_in_8bit", model.load_in_8bit)):
        if quantised:
            raise KeyProblem(
                (key, "adapter"),
                f"quantised weights cannot be trained; set adapter to lora, or {key} to false.",
            )
    if model.dtype == "float16":
        raise KeyProblem(
            ("dtype", "adapter"),
            "float16 weights lose most updates to rounding; train all weights in float32 or bfloat16 "
            "(precision: fp16 computes in float16 and keeps float32 weights).",
        )


def check_data_for_training(data: DataConfig | PretrainDataConfig, training: TrainingConfig) -> None:
    """Raise :class:`KeyProblem` where the loop needs something that the data do not give."""
    if training.eval_strategy != "no" and not data.eval_datasets and not data.eval_split_size:
        raise KeyProblem(
            ("eval_strategy", "eval_datasets", "eval_split_size"),
            "there is nothing to evaluate on; give eval_datasets or an eval_split_size.",
        )
    if data.streaming and training.max_steps < 1:
        raise KeyProblem(
            ("streaming", "max_steps"), "the length of a stream is unknown; give the number of max_steps."
        )
    for key in ("save_strategy", "eval_strategy"):
        if data.streaming and getattr(training, key) == "epoch":
            raise KeyProblem(
                ("streaming", key), "a stream is one epoch that ends with the run; set it to steps or no."
            )


@dataclass(frozen=True)
class SftConfig(Recipe):
    """Supervised fine-tuning."""

    model: ModelConfig
    data: DataConfig
    adapter: AdapterConfig = field(default_factory=AdapterConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    samples: SamplesConfig = field(default_factory=SamplesConfig)

    def check(self) -> None:
        check_trainable_weights(self.model, self.adapter)
        check_adapter(self.model, self.adapter, self.training, self.data)
        check_data_for_training(self.data, self.training)


def parse_sft(argv: Sequence[str] | None = None) -> SftConfig:
    """The recipe from ``--config RECIPE.yaml --key value …``; see :func:`load_config`."""
    return load_config(SftConfig, argv, command="sft")
