"""The recipe of preference optimisation without a reward model: DPO and every other pairwise loss."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal

from hf_align.config import shared
from hf_align.config.adapter import AdapterConfig
from hf_align.config.checks import (
    check_adapter,
    check_data_for_training,
    check_reference,
    check_trainable_weights,
)
from hf_align.config.data import ComparisonConfig, DataConfig, check_answers_are_trained
from hf_align.config.fields import option, specs_of
from hf_align.config.group import Group, KeyProblem, Recipe, with_home
from hf_align.config.loader import load_config
from hf_align.config.model import ModelConfig
from hf_align.config.samples import SamplesConfig
from hf_align.config.training import TrainingConfig
from hf_align.errors import did_you_mean

if TYPE_CHECKING:
    from hf_align.losses import PairwiseLoss

_REFERENCE_KEYS = ("reference_free", "ref_model_name_or_path", "precompute_ref_log_probs")


@dataclass(frozen=True)
class PairwiseLossConfig(Group):
    """The pairwise losses and the reference model. Names are those of TRL's DPOConfig where it has one."""

    title: ClassVar[str] = "Preference"

    loss: list[str] = option(
        factory=lambda: ["dpo"],
        help="pairwise loss, or a list of losses that are added: dpo, ipo, robust, hinge, apo_zero, simpo, …",
        non_empty=True,
        one_or_list=True,
        changes="loss",
    )
    loss_weights: list[float] | None = option(
        None, help="a weight above 0 for each of several losses; null: 1 each", non_empty=True, changes="loss"
    )
    beta: float = option(
        0.1,
        gt=0,
        help="strength of the pull towards the reference; scales log-ratios to rewards",
        changes="loss",
    )
    label_smoothing: float = option(
        0.0,
        ge=0,
        lt=0.5,
        help="assumed share of pairs in the wrong order: conservative (dpo) or robust DPO",
        changes="loss",
    )
    ipo_reduction: Literal["mean", "sum"] = option(
        "mean",
        help="log-ratios of ipo: mean per token (its authors' code), or sum (the paper's formula)",
        changes="loss",
    )
    simpo_gamma: float = option(
        0.5, ge=0, help="margin that simpo asks for between the two answers", changes="loss"
    )
    discopop_tau: float = option(0.05, gt=0, help="temperature inside discopop", changes="loss")
    f_divergence_type: Literal["reverse_kl", "forward_kl", "js_divergence", "alpha_divergence"] = option(
        "reverse_kl", help="divergence from the reference that is held against the reward", changes="loss"
    )
    f_alpha_divergence_coef: float = option(
        0.5,
        help="alpha of the alpha divergence",
        needs=("f_divergence_type", ("alpha_divergence",)),
        changes="loss",
    )
    ld_alpha: float | None = option(
        None,
        ge=0,
        le=1,
        help="weight of the tokens by which one answer of a pair is longer than the other; null: 1",
        changes="loss",
    )
    use_weighting: bool = option(
        False, help="weigh pairs by how likely the model is to write them (WPO)", changes="loss"
    )
    reference_free: bool = option(
        False, help="compare plain log-probabilities, without a reference", changes="loss"
    )
    sft_weight: float = option(
        0.0,
        ge=0,
        help="weight of the likelihood loss per token on the chosen answer, added to the loss",
        changes="loss",
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
    chosen_fall_warning: float | None = option(
        0.5,
        gt=0,
        help="warn where chosen answers lose more than this many nats per token; null: never",
        changes="outputs",
    )

    def check(self) -> None:
        # Only here: the table lives with the functions, which need torch. --help does not come here.
        from hf_align.losses import PAIRWISE_LOSSES

        object.__setattr__(self, "ref_model_name_or_path", with_home(self.ref_model_name_or_path))
        self._check_names(PAIRWISE_LOSSES)
        chosen = [PAIRWISE_LOSSES[name] for name in self.loss]
        self._check_weights()
        self._check_options(PAIRWISE_LOSSES.values(), chosen)
        self._check_reference(any(loss.uses_reference for loss in chosen))
        if "exo_pair" in self.loss and not self.label_smoothing:
            raise KeyProblem(
                ("label_smoothing", "loss"), "exo_pair needs a share above 0; its paper takes 0.001."
            )
        if self.f_divergence_type != "reverse_kl" and not any(loss.by_difference for loss in chosen):
            raise KeyProblem(
                ("f_divergence_type", "loss"),
                f"this has no effect: {_listed(self.loss, 'is', 'are')} not a loss of the difference of two "
                "scores; remove it or choose another loss.",
            )
        if self.use_weighting and any(loss.over_step for loss in chosen):
            raise KeyProblem(
                ("use_weighting", "loss"),
                "aot compares answers of different pairs, which have no weight in common; set it to false.",
            )
        if self.ld_alpha is not None and set(self.loss) <= {"simpo", "orpo"}:
            raise KeyProblem(
                ("ld_alpha", "loss"), f"{_listed(self.loss, 'divides', 'divide')} by the length; remove it."
            )

    @property
    def asks_for_reference(self) -> bool:
        """Whether any of the losses compares the model with a reference."""
        from hf_align.losses import PAIRWISE_LOSSES

        return not self.reference_free and any(PAIRWISE_LOSSES[name].uses_reference for name in self.loss)

    def _check_names(self, known: Iterable[str]) -> None:
        names = list(known)
        for name in self.loss:
            if name not in names:
                listed = ", ".join(names)
                raise KeyProblem(
                    ("loss",),
                    f"found the text {name!r}, expected one of: {listed}.{did_you_mean(name, names)}",
                )
            if self.loss.count(name) > 1:
                raise KeyProblem(("loss",), f"'{name}' is given twice; expected each loss once.")

    def _check_weights(self) -> None:
        if self.loss_weights is None:
            return
        if len(self.loss_weights) != len(self.loss):
            raise KeyProblem(
                ("loss_weights", "loss"),
                f"found {_numbered(len(self.loss_weights), 'weight')} for "
                f"{_numbered(len(self.loss), 'loss', 'losses')}; expected one for each, in the same order.",
            )
        for weight in self.loss_weights:
            if weight <= 0:
                raise KeyProblem(("loss_weights",), f"found the number {weight:g}, expected numbers above 0.")

    def _check_options(self, every: Iterable[PairwiseLoss], chosen: Sequence[PairwiseLoss]) -> None:
        """Refuse an option that would have no effect, as far as it shows: where it is not the default."""
        specs = specs_of(type(self))
        for key in sorted({key for loss in every for key in loss.options}):
            if getattr(self, key) == specs[key].default or any(key in loss.options for loss in chosen):
                continue
            raise KeyProblem(
                (key, "loss"),
                f"this has no effect: {_listed(self.loss, 'does', 'do')} not take it; remove it or choose "
                "another loss.",
            )

    def _check_reference(self, used: bool) -> None:
        if not used:
            for key in _REFERENCE_KEYS:
                if getattr(self, key):
                    raise KeyProblem(
                        (key, "loss"),
                        f"this has no effect: {_listed(self.loss, 'uses', 'use')} no reference; remove it.",
                    )
        if self.reference_free:
            for key in _REFERENCE_KEYS[1:]:
                if getattr(self, key):
                    raise KeyProblem(
                        (key, "reference_free"), "there is no reference; remove one of the two keys."
                    )
        if self.ref_model_name_or_path is not None and self.precompute_ref_log_probs is False:
            raise KeyProblem(
                ("precompute_ref_log_probs", "ref_model_name_or_path"),
                "a reference of its own is run beforehand, so that no second model is in memory while "
                "training; set it to true or null.",
            )


@dataclass(frozen=True)
class DpoTrainingConfig(TrainingConfig):
    """The training loop with the defaults of preference optimisation."""

    output_dir: str = shared.output_dir("runs/dpo")
    learning_rate: float = option(1e-6, gt=0, help="peak learning rate; an adapter takes about 10 times more")


@dataclass(frozen=True)
class DpoConfig(Recipe):
    """Preference optimisation on pairs or rankings of answers."""

    model: ModelConfig
    data: DataConfig
    comparison: ComparisonConfig = field(default_factory=ComparisonConfig)
    preference: PairwiseLossConfig = field(default_factory=PairwiseLossConfig)
    adapter: AdapterConfig = field(default_factory=AdapterConfig)
    training: DpoTrainingConfig = field(default_factory=DpoTrainingConfig)
    samples: SamplesConfig = field(default_factory=SamplesConfig)

    @property
    def reference(self) -> Literal["none", "adapter off", "precomputed"]:
        """Where the reference's log-probabilities come from."""
        preference = self.preference
        if not preference.asks_for_reference:
            return "none"
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
                "Set precompute_ref_log_probs: true, which runs the model as it was loaded, or take a loss "
                "without a reference (simpo, orpo)."
                if not self.adapter.virtual_tokens
                else "Take a loss without a reference (simpo, orpo), or another adapter.",
            )
        check_data_for_training(self.data, self.training)
        check_answers_are_trained(self.data.train_on, last=True)
        if self.training.neftune_noise_alpha is not None:
            raise KeyProblem(
                ("neftune_noise_alpha",),
                "noise on the embeddings would differ between the answers that are compared, and between the "
                "model and its reference; remove it.",
            )
        preference = self.preference
        full = self.adapter.trains_base
        if full and preference.asks_for_reference and preference.precompute_ref_log_probs is False:
            raise KeyProblem(
                ("precompute_ref_log_probs", "adapter"),
                "without an adapter the model itself changes, so that its reference must be run "
                "beforehand; set it to true or null.",
            )
        if self.data.streaming and self.reference == "precomputed":
            raise KeyProblem(
                ("streaming", *_given(preference)),
                "the reference is run over all rows before training, and those of a stream are not known; "
                "set streaming to false, or train an adapter.",
            )


def parse_dpo(argv: Sequence[str] | None = None) -> DpoConfig:
    """The recipe from ``--config RECIPE.yaml --key value …``; see :func:`load_config`."""
    return load_config(DpoConfig, argv, command="dpo")


def _given(preference: PairwiseLossConfig) -> list[str]:
    """The key that asks for a reference that is run beforehand, or ``adapter``, whose absence does."""
    keys = ("ref_model_name_or_path", "precompute_ref_log_probs")
    return [key for key in keys if getattr(preference, key)] or ["adapter"]


def _numbered(count: int, one: str, several: str = "") -> str:
    return f"{count} {one if count == 1 else several or one + 's'}"


def _listed(names: Sequence[str], one: str, several: str) -> str:
    return f"{' and '.join(names)} {one if len(names) == 1 else several}"
