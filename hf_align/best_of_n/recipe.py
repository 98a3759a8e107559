"""The recipe of Best-of-N: sample several answers to each prompt, score them, keep the best, train on it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from hf_align.best_of_n.raft.recipe import RaftTrainingConfig
from hf_align.config import shared
from hf_align.config.adapter import AdapterConfig
from hf_align.config.checks import check_rows_are_known, check_trainable_weights
from hf_align.config.data import DataConfig
from hf_align.config.fields import Spec, option, specs_of
from hf_align.config.group import Group, KeyProblem, Recipe, with_home
from hf_align.config.loader import load_config
from hf_align.config.model import ModelConfig
from hf_align.rewards.recipe import RewardsConfig

TRAIN = ("train", (True,))
_WITHOUT_TRAINING = ("output_dir", "seed", "use_cpu")
_HELD_OUT = ("eval_datasets", "eval_split_size")


@dataclass(frozen=True)
class BestOfNOptions(Group):
    """How answers are sampled, and which are kept. Names are those of TRL where it has one."""

    title: ClassVar[str] = "Best-of-N"

    train: bool = option(
        False, help="fine-tune on the best answers, sample from what came of it, and so on (RAFT)"
    )
    rounds: int = option(
        1, ge=1, help="rounds of sampling and training; more may follow later", needs=TRAIN, changes="outputs"
    )
    num_generations: int = option(16, ge=2, help="answers sampled for each prompt: N")
    max_new_tokens: int = option(256, ge=1, help="longest answer in tokens")
    temperature: float = option(1.0, gt=0, help="sampling temperature")
    top_p: float = shared.top_p()
    top_k: int = shared.top_k()
    keep_best: int = option(1, ge=1, help="answers to each prompt that best.jsonl gets")
    keep_above_mean: bool | None = option(
        None,
        help="keep only answers whose reward is above the mean of all answers to their prompt; null: where "
        "train is true",
    )
    keep_unfinished: bool = option(
        False,
        help="keep answers that the token limit cut off; a model trained on them learns to stop anywhere",
    )
    min_reward: float | None = option(
        None, help="the least reward of an answer that is kept; null: whatever is the best"
    )
    eval_temperature: float = option(
        0.0,
        ge=0,
        help="of the one answer to a held-out prompt; 0: always the likeliest token",
        needs=TRAIN,
    )
    generation_batch_size: int = option(64, ge=1, help="answers sampled at once", changes="rounding")
    base_model: str | None = shared.base_model()
    resume: bool = option(
        True,
        help="go on with what is in output_dir, which must be of the same model, sampling and rewards; "
        "false: move an earlier run there aside",
        changes="resuming",
    )

    def check(self) -> None:
        object.__setattr__(self, "base_model", with_home(self.base_model))
        if self.keep_best > self.num_generations:
            raise KeyProblem(
                ("keep_best", "num_generations"),
                f"found {self.keep_best} answers to keep of {self.num_generations}; expected at most as many "
                "as are sampled.",
            )

    @property
    def above_mean(self) -> bool:
        """Whether an answer must be better than the mean of its prompt's to be kept."""
        return self.train if self.keep_above_mean is None else self.keep_above_mean


@dataclass(frozen=True)
class BestOfNConfig(Recipe):
    """Best-of-N sampling, and rejection-sampling fine-tuning on what it keeps."""

    model: ModelConfig
    data: DataConfig
    rewards: RewardsConfig
    best_of_n: BestOfNOptions = field(default_factory=BestOfNOptions)
    adapter: AdapterConfig = field(default_factory=AdapterConfig)
    training: RaftTrainingConfig = field(default_factory=RaftTrainingConfig)

    @classmethod
    def keys(cls) -> dict[str, Spec]:
        """Every key; those of training have no effect without it."""
        trained = {*specs_of(AdapterConfig), *specs_of(RaftTrainingConfig), *_HELD_OUT}
        found = super().keys()
        for name in trained.difference(_WITHOUT_TRAINING):
            spec = found[name]
            needs = spec.option.needs or TRAIN
            found[name] = dataclasses.replace(spec, option=dataclasses.replace(spec.option, needs=needs))
        return found

    def check(self) -> None:
        data, unused = self.data, "this has no effect: every row of datasets is asked once; remove it."
        if data.streaming:
            raise KeyProblem(("streaming",), unused)
        if data.mixture_exponent != 1:
            raise KeyProblem(("mixture_exponent",), unused)
        if any(dataset.weight != 1 for dataset in data.datasets):
            raise KeyProblem(("datasets",), f"a weight: {unused}")
        if not self.best_of_n.train:
            return
        check_trainable_weights(self.model, self.adapter)
        check_rows_are_known(self.adapter, ("train",))
        if data.train_on != "assistant":
            raise KeyProblem(
                ("train_on",),
                f"found {data.train_on}; what is trained are the sampled answers. Leave it out.",
            )

    def to_flat(self) -> dict[str, Any]:
        """Every key with its resolved value; without training, none of the keys that need it."""
        flat = super().to_flat()
        if self.best_of_n.train:
            return flat
        needed = {name for name, spec in self.keys().items() if spec.option.needs == TRAIN}
        needed |= {name for group in (AdapterConfig, RaftTrainingConfig) for name in specs_of(group)}
        return {key: value for key, value in flat.items() if key in _WITHOUT_TRAINING or key not in needed}


def parse_best_of_n(argv: Sequence[str] | None = None) -> BestOfNConfig:
    """The recipe from ``--config RECIPE.yaml --key value …``; see :func:`load_config`."""
    return load_config(BestOfNConfig, argv, command="best-of-n")
