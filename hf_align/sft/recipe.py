"""The recipe of supervised fine-tuning: its groups, and the checks between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from hf_align.config.adapter import LORA, AdapterConfig
from hf_align.config.checks import check_adapter, check_data_for_training, check_trainable_weights
from hf_align.config.data import DataConfig
from hf_align.config.fields import option
from hf_align.config.group import Group, KeyProblem, Recipe
from hf_align.config.loader import load_config
from hf_align.config.model import ModelConfig
from hf_align.config.samples import SamplesConfig
from hf_align.config.training import TrainingConfig


@dataclass(frozen=True)
class NewTokensConfig(Group):
    """Tokens that the tokenizer gets beside its own; rows for them are added to the model and trained."""

    title: ClassVar[str] = "New tokens"

    additional_special_tokens: list[str] = option(
        factory=list,
        help="tokens that are never split and that templates and data may use, such as <|tool|>; beside LoRA "
        "their rows are trained and saved with it",
        one_or_list=True,
        later=True,
    )

    def check(self) -> None:
        if any(not token.strip() for token in self.additional_special_tokens):
            raise KeyProblem(("additional_special_tokens",), "a special token cannot be blank.")


@dataclass(frozen=True)
class SftConfig(Recipe):
    """Supervised fine-tuning."""

    model: ModelConfig
    data: DataConfig
    adapter: AdapterConfig = field(default_factory=AdapterConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    samples: SamplesConfig = field(default_factory=SamplesConfig)
    tokens: NewTokensConfig = field(default_factory=NewTokensConfig)

    def check(self) -> None:
        check_trainable_weights(self.model, self.adapter)
        check_adapter(self.model, self.adapter, self.training, self.data)
        check_data_for_training(self.data, self.training)
        self._check_new_tokens()

    def _check_new_tokens(self) -> None:
        """New rows need to be trained: with all weights, or by themselves beside LoRA."""
        if not self.tokens.additional_special_tokens:
            return
        adapter = self.adapter
        if not adapter.trains_base and adapter.adapter not in LORA:
            raise KeyProblem(
                ("additional_special_tokens", "adapter"),
                f"rows of new tokens are trained beside {' and '.join(LORA)}, or with the whole model, and "
                f"not beside {adapter.adapter}.",
            )
        if adapter.init_lora_weights == "eva" or "trainable_token_indices" in (adapter.peft_options or {}):
            other = "init_lora_weights" if adapter.init_lora_weights == "eva" else "peft_options"
            raise KeyProblem(
                ("additional_special_tokens", other),
                "PEFT takes one choice of single rows, and none beside eva; use one of the two.",
            )


def parse_sft(argv: Sequence[str] | None = None) -> SftConfig:
    """The recipe from ``--config RECIPE.yaml --key value …``; see :func:`load_config`."""
    return load_config(SftConfig, argv, command="sft")
