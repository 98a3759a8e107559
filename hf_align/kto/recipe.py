"""The recipe of learning from single answers with a label: KTO and the other unpaired losses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from hf_align.config import shared
from hf_align.config.adapter import AdapterConfig
from hf_align.config.checks import (
    check_adapter,
    check_data_for_training,
    check_reference,
    check_trainable_weights,
)
from hf_align.config.data import DataConfig, check_answers_are_trained
from hf_align.config.fields import option
from hf_align.config.group import Group, KeyProblem, Recipe, with_home
from hf_align.config.loader import load_config
from hf_align.config.model import ModelConfig
from hf_align.config.samples import SamplesConfig
from hf_align.config.training import TrainingConfig


@dataclass(frozen=True)
class UnpairedLossConfig(Group):
    """The unpaired losses and the reference model. Names are those of TRL's KTOConfig where it has one."""

    title: ClassVar[str] = "Unpaired preference"

    loss_type: Literal["kto", "apo_zero_unpaired"] = option(
        "kto", help="loss of an answer with a label", changes="loss"
    )
    beta: float = option(
        0.1,
        gt=0,
        help="strength of the pull towards the reference; scales log-ratios to rewards",
        changes="loss",
    )
    desirable_weight: float = option(
        1.0, ge=0, help="weight of the loss of desirable answers", changes="loss"
    )
    undesirable_weight: float = option(
        1.0, ge=0, help="weight of the loss of undesirable answers", changes="loss"
    )
    disable_dropout: bool = option(
        True, help="no dropout in the base model, so that it differs from its reference by training alone"
    )
    ref_model_name_or_path: str | None = option(
        None,
        help="a reference other than the model as it is loaded; it is run beforehand and not kept in memory",
        non_empty=True,
    )
    precompute_ref_log_probs: bool | None = option(
        None,
        help="run the reference over all rows before training; null: yes without an adapter or with a "
        "reference of its own, no with an adapter, which is switched off for the reference",
    )
    reference_cache: bool = option(
        True,
        help="keep the reference's log-probabilities on disk for runs with the same model and data",
        changes="speed",
    )

    def check(self) -> None:
        object.__setattr__(self, "ref_model_name_or_path", with_home(self.ref_model_name_or_path))
        if not self.desirable_weight and not self.undesirable_weight:
            raise KeyProblem(
                ("desirable_weight", "undesirable_weight"), "both are 0, so that nothing would be learned."
            )
        if self.ref_model_name_or_path is not None and self.precompute_ref_log_probs is False:
            raise KeyProblem(
                ("precompute_ref_log_probs", "ref_model_name_or_path"),
                "a reference of its own is run beforehand, so that no second model is in memory while "
                "training; set it to true or null.",
            )


@dataclass(frozen=True)
class KtoTrainingConfig(TrainingConfig):
    """The training loop with the defaults of KTO."""

    output_dir: str = shared.output_dir("runs/kto")
    learning_rate: float = option(1e-6, gt=0, help="peak learning rate; an adapter takes about 10 times more")


@dataclass(frozen=True)
class KtoConfig(Recipe):
    """Preference optimisation on single answers with a label."""

    model: ModelConfig
    data: DataConfig
    preference: UnpairedLossConfig = field(default_factory=UnpairedLossConfig)
    adapter: AdapterConfig = field(default_factory=AdapterConfig)
    training: KtoTrainingConfig = field(default_factory=KtoTrainingConfig)
    samples: SamplesConfig = field(default_factory=SamplesConfig)

    @property
    def reference(self) -> Literal["adapter off", "precomputed"]:
        """Where the reference's log-probabilities come from."""
        preference = self.preference
        if preference.precompute_ref_log_probs or preference.ref_model_name_or_path is not None:
            return "precomputed"
        return "precomputed" if self.adapter.trains_base else "adapter off"

    def check(self) -> None:
        check_trainable_weights(self.model, self.adapter)
        check_adapter(self.model, self.adapter, self.training, self.data)
        if self.reference == "adapter off":
            check_reference(
                self.adapter,
                "this loss",
                "Take another adapter."
                if self.adapter.virtual_tokens
                else "Set precompute_ref_log_probs: true, which runs the model as it was loaded.",
            )
        check_data_for_training(self.data, self.training)
        check_answers_are_trained(self.data.train_on)
        if self.data.streaming:
            raise KeyProblem(
                ("streaming",),
                "which answers make a step, and which prompts they are paired with for the KL estimate, "
                "follows from all rows; set it to false.",
            )
        if self.adapter.ladder_cache:
            raise KeyProblem(
                ("ladder_cache",),
                "prompts meet the answers of other rows here, whose states are not stored; set it to false.",
            )
        if self.training.neftune_noise_alpha is not None:
            raise KeyProblem(
                ("neftune_noise_alpha",),
                "noise on the embeddings would differ between the model and its reference; remove it.",
            )
        if self.adapter.trains_base and self.preference.precompute_ref_log_probs is False:
            raise KeyProblem(
                ("precompute_ref_log_probs", "adapter"),
                "without an adapter the model itself changes, so that its reference must be run "
                "beforehand; set it to true or null.",
            )


def parse_kto(argv: Sequence[str] | None = None) -> KtoConfig:
    """The recipe from ``--config RECIPE.yaml --key value …``; see :func:`load_config`."""
    return load_config(KtoConfig, argv, command="kto")
