"""The recipe of reward models: a scalar score for an answer, learned from comparisons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from hf_align.config import shared
from hf_align.config.adapter import EVERY_ADAPTER, AdapterConfig
from hf_align.config.checks import check_adapter, check_data_for_training, check_trainable_weights
from hf_align.config.data import ComparisonConfig, DataConfig, check_answers_are_trained
from hf_align.config.fields import option
from hf_align.config.group import Group, KeyProblem, Recipe
from hf_align.config.loader import load_config
from hf_align.config.model import ModelConfig
from hf_align.config.training import TrainingConfig


@dataclass(frozen=True)
class RewardLossConfig(Group):
    """The loss of a reward model, its head, and how it is saved."""

    title: ClassVar[str] = "Reward"

    center_rewards_coefficient: float = option(
        0.0,
        ge=0,
        help="weight of (chosen score + rejected score)^2, which keeps scores around 0; 0.01 is usual",
        changes="loss",
    )
    head_init: Literal["normal", "zero"] = option(
        "normal",
        help="first weights of a new head: normal with variance 1 / (width + 1), or zero; a head that the "
        "checkpoint has is kept",
    )
    save_merged: bool | None = option(
        None,
        help="save an adapter merged into its base, as a plain float32 model that loads in one call, and the "
        "adapter itself in adapter/; null: yes, unless the base is quantised or the method cannot be merged",
        needs=("adapter", EVERY_ADAPTER),
        changes="outputs",
    )


@dataclass(frozen=True)
class RewardTrainingConfig(TrainingConfig):
    """The training loop with the defaults of reward models."""

    output_dir: str = shared.output_dir("runs/reward")
    learning_rate: float = option(1e-5, gt=0, help="peak learning rate; an adapter takes about 10 times more")


@dataclass(frozen=True)
class RewardConfig(Recipe):
    """Reward models from pairs or rankings of answers."""

    model: ModelConfig
    data: DataConfig
    comparison: ComparisonConfig = field(default_factory=ComparisonConfig)
    reward: RewardLossConfig = field(default_factory=RewardLossConfig)
    adapter: AdapterConfig = field(default_factory=AdapterConfig)
    training: RewardTrainingConfig = field(default_factory=RewardTrainingConfig)

    @property
    def merges(self) -> bool:
        """Whether the run folder gets a merged model instead of an adapter."""
        if not self.adapter.mergeable:
            return False
        quantised = self.model.load_in_4bit or self.model.load_in_8bit
        return not quantised if self.reward.save_merged is None else self.reward.save_merged

    def check(self) -> None:
        check_trainable_weights(self.model, self.adapter)
        check_adapter(self.model, self.adapter, self.training, self.data)
        if self.reward.save_merged and not self.adapter.mergeable:
            raise KeyProblem(
                ("save_merged", "adapter"),
                f"{self.adapter.adapter} cannot be merged: it changes no weights of the model itself; remove "
                "save_merged.",
            )
        check_data_for_training(self.data, self.training)
        check_answers_are_trained(self.data.train_on)
        if self.training.neftune_noise_alpha is not None:
            raise KeyProblem(
                ("neftune_noise_alpha",),
                "noise on the embeddings would differ between the answers that are compared; remove it.",
            )
        for key, quantised in (
            ("load_in_4bit", self.model.load_in_4bit),
            ("load_in_8bit", self.model.load_in_8bit),
        ):
            if quantised and self.merges:
                raise KeyProblem(
                    ("save_merged", key),
                    "an adapter was trained to correct the rounding of its quantised base, and merged into "
                    f"other weights it would give other scores; remove save_merged, or set {key} to false.",
                )


def parse_reward(argv: Sequence[str] | None = None) -> RewardConfig:
    """The recipe from ``--config RECIPE.yaml --key value …``; see :func:`load_config`."""
    return load_config(RewardConfig, argv, command="reward")
