"""The recipe of classification: a head on any model that tells texts, or pairs of texts, apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from hf_align.config import shared
from hf_align.config.adapter import AdapterConfig
from hf_align.config.checks import check_adapter, check_data_for_training, check_trainable_weights
from hf_align.config.data import DataConfig
from hf_align.config.fields import option
from hf_align.config.group import Group, KeyProblem, Recipe
from hf_align.config.loader import load_config
from hf_align.config.model import ModelConfig
from hf_align.config.training import TrainingConfig

_WITHOUT_EFFECT = ("train_on", "add_eos", "system_prompt", "require_end_of_turn")
"""Options of the data that are about answers, of which there are none here."""


@dataclass(frozen=True)
class ClassifyOptions(Group):
    """The classes, what training starts from, and what is trained."""

    title: ClassVar[str] = "Classification"

    labels: list[str] | None = option(
        None,
        help="names of the classes in the order of their numbers; null: those of the training rows, sorted, "
        "or of a model that is a classifier already",
        non_empty=True,
    )
    init_from: Literal["weights", "embeddings", "random"] = option(
        "weights",
        help="what training starts from: the model's weights, its token embeddings in an otherwise random "
        "network of its shape, or random weights throughout (to see what pre-training is worth)",
    )
    freeze_base: bool = option(
        False, help="train the head alone, on the features of a frozen model without dropout"
    )
    pair_separator: str = option(
        "\n\n",
        help="what stands between sentence1 and sentence2 where the tokenizer puts nothing there",
        non_empty=True,
    )

    def check(self) -> None:
        if self.labels is None:
            return
        double = next((name for name in self.labels if self.labels.count(name) > 1), None)
        if len(self.labels) < 2 or double is not None:
            found = f"'{double}' twice" if double is not None else "one"
            raise KeyProblem(("labels",), f"found {found}; expected two or more different names.")


@dataclass(frozen=True)
class ClassifyTrainingConfig(TrainingConfig):
    """The training loop with the defaults of classification."""

    output_dir: str = shared.output_dir("runs/classify")
    learning_rate: float = option(
        2e-5, gt=0, help="peak learning rate; an adapter takes about 10 times more, a head alone 100 times"
    )


@dataclass(frozen=True)
class ClassifyConfig(Recipe):
    """Classification of texts and of pairs of texts."""

    model: ModelConfig
    data: DataConfig
    classify: ClassifyOptions = field(default_factory=ClassifyOptions)
    adapter: AdapterConfig = field(default_factory=AdapterConfig)
    training: ClassifyTrainingConfig = field(default_factory=ClassifyTrainingConfig)

    @property
    def merges(self) -> bool:
        """Whether the run folder gets a whole model with the adapter in it, beside the adapter itself."""
        return self.adapter.mergeable and not (self.model.load_in_4bit or self.model.load_in_8bit)

    def check(self) -> None:
        frozen = self.classify.freeze_base
        if frozen and (not self.adapter.trains_base or self.adapter.trainable is not None):
            raise KeyProblem(
                ("freeze_base", "trainable" if self.adapter.trains_base else "adapter"),
                "with freeze_base nothing but the head is trained; remove one of the two.",
            )
        if not frozen:
            check_trainable_weights(self.model, self.adapter)
        check_adapter(self.model, self.adapter, self.training, self.data)
        if self.data.streaming:
            raise KeyProblem(("streaming",), "the labels are known once all rows are read; set it to false.")
        check_data_for_training(self.data, self.training)
        for key in _WITHOUT_EFFECT:
            if getattr(self.data, key) != DataConfig.__dataclass_fields__[key].default:
                raise KeyProblem((key,), "it is about answers, and rows here have labels; remove it.")
        if self.model.chat_template_path is not None:
            raise KeyProblem(
                ("chat_template_path",), "texts are classified as they stand, without a template; remove it."
            )
        if self.classify.init_from != "weights":
            for key in ("load_in_4bit", "load_in_8bit"):
                if getattr(self.model, key):
                    raise KeyProblem(
                        ("init_from", key), f"random weights are not quantised; set {key} to false."
                    )
            if not self.adapter.trains_base:
                raise KeyProblem(
                    ("init_from", "adapter"),
                    "an adapter is saved for a base that can be loaded again, and random weights cannot; "
                    "set adapter: none.",
                )


def parse_classify(argv: Sequence[str] | None = None) -> ClassifyConfig:
    """The recipe from ``--config RECIPE.yaml --key value …``; see :func:`load_config`."""
    return load_config(ClassifyConfig, argv, command="classify")
