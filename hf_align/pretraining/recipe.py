"""The recipe of pre-training: a new model or one that is trained on, an objective, text in blocks, the loop.

Which objective fits which kind of model is known here, so that a recipe that cannot work costs no time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal, get_args

from hf_align.config import shared
from hf_align.config.checks import check_data_for_training
from hf_align.config.fields import option
from hf_align.config.group import Group, KeyProblem, Recipe, with_home
from hf_align.config.loader import load_config
from hf_align.config.samples import SamplesConfig
from hf_align.config.training import TrainingConfig
from hf_align.errors import did_you_mean
from hf_align.pretraining.recipe_data import PretrainDataConfig, StagesConfig, check_stages

ObjectiveName = Literal[
    "mlm",
    "wwm",
    "mlm_nsp",
    "sop",
    "span_mlm",
    "text_infilling",
    "span_corruption",
    "prefix_lm",
    "decoder_prefix_lm",
    "causal",
]
ArchitectureName = Literal["bert", "roberta", "spanbert", "albert", "t5", "bart", "gpt2", "llama", "qwen3"]

KIND_OF_OBJECTIVE: dict[str, str] = {
    **dict.fromkeys(("mlm", "wwm", "mlm_nsp", "sop", "span_mlm"), "encoder"),
    **dict.fromkeys(("text_infilling", "span_corruption", "prefix_lm"), "encoder_decoder"),
    **dict.fromkeys(("decoder_prefix_lm", "causal"), "decoder"),
}
KIND_OF_ARCHITECTURE: dict[str, str] = {
    **dict.fromkeys(("bert", "roberta", "spanbert", "albert"), "encoder"),
    **dict.fromkeys(("t5", "bart"), "encoder_decoder"),
    **dict.fromkeys(("gpt2", "llama", "qwen3"), "decoder"),
}
PAIR_ARCHITECTURES = ("bert", "spanbert", "albert")
"""Those with a head that classifies a pair of segments."""
OWN_OBJECTIVE: dict[str, str] = {
    "bert": "mlm_nsp",
    "roberta": "mlm",
    "spanbert": "span_mlm",
    "albert": "sop",
    "t5": "span_corruption",
    "bart": "text_infilling",
    "gpt2": "causal",
    "llama": "causal",
    "qwen3": "causal",
}
"""What the paper of an architecture trained it with."""

_NEW = ("model_name_or_path", (None,))
_BY_NAME = ("architecture", get_args(ArchitectureName))


@dataclass(frozen=True)
class PretrainModelConfig(Group):
    """The model: new, by the name of an architecture or from a configuration, or trained on from weights."""

    title: ClassVar[str] = "Model"

    architecture: ArchitectureName | None = option(None, help="a new model of this family, of a model_size")
    model_size: Literal["tiny", "mini", "small"] = option(
        "tiny",
        help="layers and width of a new model: 2 and 128, 4 and 256, 4 and 512 (encoder and decoder each)",
        needs=_BY_NAME,
    )
    config_name_or_path: str | None = option(
        None,
        help="a new model from this configuration: a folder or file, a hub name, or a model type of "
        "transformers, such as modernbert",
        non_empty=True,
    )
    config_overrides: dict[str, int | float | str | bool | None] = option(
        factory=dict, help="values of the new model's configuration, for example {num_hidden_layers: 6}"
    )
    model_name_or_path: str | None = option(
        None, help="a folder with a model to train on, or its name on the hub", non_empty=True
    )
    model_revision: str | None = shared.model_revision()
    tokenizer_name_or_path: str | None = option(
        None, help="folder or hub name of the tokenizer; null: that of model_name_or_path", non_empty=True
    )
    embeddings_name_or_path: str | None = option(
        None,
        help="a model whose input embeddings a new model begins with, token by token where both have it",
        non_empty=True,
        needs=_NEW,
    )
    trust_remote_code: bool = shared.trust_remote_code()

    def check(self) -> None:
        sources = ("architecture", "config_name_or_path", "model_name_or_path")
        for name in (*sources[1:], "tokenizer_name_or_path", "embeddings_name_or_path"):
            object.__setattr__(self, name, with_home(getattr(self, name)))
        given = [name for name in sources if getattr(self, name) is not None]
        if len(given) != 1:
            found = f"found {' and '.join(given)}" if given else "found none of them"
            raise KeyProblem(
                tuple(given) or sources,
                f"{found}, expected one of {', '.join(sources)}: it says which model is trained.",
            )
        if self.model_name_or_path is not None and self.config_overrides:
            raise KeyProblem(
                ("config_overrides", "model_name_or_path"),
                "the configuration of a model with weights cannot be changed; use config_name_or_path for a "
                "new model.",
            )
        if self.model_name_or_path is None and self.tokenizer_name_or_path is None:
            raise KeyProblem(
                ("tokenizer_name_or_path",),
                "a new model has no tokenizer; name one (`hf-align tokenizer` trains one).",
            )


@dataclass(frozen=True)
class ObjectiveConfig(Group):
    """What is hidden and predicted."""

    title: ClassVar[str] = "Objective"

    objective: ObjectiveName | None = option(
        None, help="what the model learns to predict; null: what the paper of the architecture used"
    )
    objective_kwargs: dict[str, int | float | str | bool] = option(
        factory=dict, help="its options, for example {mlm_probability: 0.2} or {mean_span_length: 5}"
    )


@dataclass(frozen=True)
class PretrainTrainingConfig(TrainingConfig):
    """The training loop with the defaults of pre-training."""

    output_dir: str = shared.output_dir("runs/pretrain")
    learning_rate: float = option(5e-4, gt=0, help="peak learning rate")
    warmup_steps: float = option(
        0.05, ge=0, help="steps in which the learning rate rises from 0; below 1: a share of all steps"
    )
    weight_decay: float = option(0.01, ge=0, help="decoupled weight decay")
    average_last: int = option(
        1,
        ge=1,
        help="the saved model is the mean of so many last checkpoints, the end of training included",
        changes="outputs",
    )

    def check(self) -> None:
        super().check()
        if self.average_last == 1:
            return
        if self.save_strategy == "no":
            raise KeyProblem(
                ("average_last", "save_strategy"), "there are no checkpoints to average; save some."
            )
        if self.save_total_limit is not None and self.save_total_limit < self.average_last:
            raise KeyProblem(
                ("average_last", "save_total_limit"),
                f"{self.average_last} checkpoints are averaged, but only {self.save_total_limit} are kept; "
                "raise save_total_limit.",
            )
        if self.load_best_model_at_end:
            raise KeyProblem(
                ("average_last", "load_best_model_at_end"),
                "the result is either the best checkpoint or a mean of the last; choose one.",
            )


@dataclass(frozen=True)
class PretrainConfig(Recipe):
    """Pre-training."""

    model: PretrainModelConfig
    data: PretrainDataConfig
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    training: PretrainTrainingConfig = field(default_factory=PretrainTrainingConfig)
    schedule: StagesConfig = field(default_factory=StagesConfig)
    samples: SamplesConfig = field(default_factory=SamplesConfig)

    @property
    def longest_block(self) -> int:
        """The length of the longest block of any stage."""
        lengths = [stage.block_length or self.data.block_length for stage in self.schedule.stages]
        return max(self.data.block_length, *lengths) if lengths else self.data.block_length

    @property
    def objective_name(self) -> str:
        """The objective, that of the architecture where the recipe names none."""
        name = self.objective.objective or OWN_OBJECTIVE.get(self.model.architecture or "")
        assert name is not None
        return name

    @property
    def kind(self) -> str:
        """``encoder``, ``encoder_decoder`` or ``decoder``: the model that the objective trains."""
        return KIND_OF_OBJECTIVE[self.objective_name]

    def check(self) -> None:
        self._check_objective()
        check_stages(self.schedule.stages, self.data, self.training)
        data, training = self.data, self.training
        if not data.packing and self.objective_name in ("mlm_nsp", "sop"):
            raise KeyProblem(
                ("packing", "objective"),
                f"{self.objective_name} is trained on pairs of segments, which no packing changes; remove "
                "packing.",
            )
        if not data.isolate_documents and self.objective_name != "causal":
            raise KeyProblem(
                ("isolate_documents", "objective"),
                f"only causal blocks keep documents apart; a block of {self.objective_name} is one sequence "
                "anyway. Remove isolate_documents.",
            )
        check_data_for_training(data, training)

    def _check_objective(self) -> None:
        architecture, chosen = self.model.architecture, self.objective.objective
        if architecture is None:
            if chosen is None:
                raise KeyProblem(
                    ("objective",),
                    "only an architecture has an objective of its own; name one of "
                    f"{', '.join(KIND_OF_OBJECTIVE)}.",
                )
            return
        name = str(chosen or OWN_OBJECTIVE[architecture])
        kind = KIND_OF_ARCHITECTURE[architecture]
        fitting = [
            one
            for one, trained in KIND_OF_OBJECTIVE.items()
            if trained == kind and (one not in ("mlm_nsp", "sop") or architecture in PAIR_ARCHITECTURES)
        ]
        if name in fitting:
            return
        right = [
            one
            for one, found in KIND_OF_ARCHITECTURE.items()
            if found == KIND_OF_OBJECTIVE[name]
            and (name not in ("mlm_nsp", "sop") or one in PAIR_ARCHITECTURES)
        ]
        raise KeyProblem(
            ("objective", "architecture"),
            f"{name} does not fit {architecture} ({kind.replace('_', '-')}), which is trained with "
            f"{', '.join(fitting)}; {name} trains {', '.join(right)}.{did_you_mean(name, fitting)}",
        )


def parse_pretrain(argv: Sequence[str] | None = None) -> PretrainConfig:
    """The recipe from ``--config RECIPE.yaml --key value …``; see :func:`load_config`."""
    return load_config(PretrainConfig, argv, command="pretrain")
