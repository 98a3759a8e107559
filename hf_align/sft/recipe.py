"""The recipe of supervised fine-tuning: its groups, and the checks between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from hf_align.config.adapter import AdapterConfig
from hf_align.config.checks import check_adapter, check_data_for_training, check_trainable_weights
from hf_align.config.data import DataConfig
from hf_align.config.group import Recipe
from hf_align.config.loader import load_config
from hf_align.config.model import ModelConfig
from hf_align.config.samples import SamplesConfig
from hf_align.config.training import TrainingConfig


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
