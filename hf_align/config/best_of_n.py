"""The recipe of Best-of-N: sample several answers to each prompt, score them, keep the best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from hf_align.config.data import DataConfig
from hf_align.config.fields import option
from hf_align.config.group import Group, KeyProblem, Recipe, with_home
from hf_align.config.loader import load_config
from hf_align.config.model import ModelConfig
from hf_align.config.rewards import RewardsConfig

_OF_TRAINING = ("eval_datasets", "eval_split_size", "streaming")


@dataclass(frozen=True)
class BestOfNOptions(Group):
    """How answers are sampled, and which are kept. Names are those of TRL where it has one."""

    title: ClassVar[str] = "Best-of-N"

    output_dir: str = option("runs/best_of_n", help="folder for the answers and the report", non_empty=True)
    num_generations: int = option(16, ge=2, help="answers sampled for each prompt: N")
    max_new_tokens: int = option(256, ge=1, help="longest answer in tokens")
    temperature: float = option(1.0, gt=0, help="sampling temperature")
    top_p: float = option(
        1.0, gt=0, le=1, help="draw from the likeliest tokens that have this probability together"
    )
    top_k: int = option(0, ge=0, help="draw from so many of the likeliest tokens; 0: from all")
    keep_best: int = option(1, ge=1, help="answers to each prompt that best.jsonl gets")
    keep_unfinished: bool = option(
        False,
        help="keep answers that the token limit cut off; a model trained on them learns to stop anywhere",
    )
    min_reward: float | None = option(
        None, help="the least reward of an answer that is kept; null: whatever is the best"
    )
    generation_batch_size: int = option(
        64, ge=1, help="answers sampled at once; changes speed, memory and the random draws"
    )
    base_model: str | None = option(
        None, help="the base of an adapter, where it is not where the adapter says", non_empty=True
    )
    seed: int = option(42, ge=0, le=2**32 - 1, help="seed of the random draws")
    use_cpu: bool = option(False, help="compute on the CPU even where there is a GPU")
    resume: bool = option(
        True,
        help="go on with the answers in output_dir, which must be of the same model, sampling and rewards; "
        "false: move an earlier run there aside",
    )

    def check(self) -> None:
        object.__setattr__(self, "output_dir", with_home(self.output_dir))
        object.__setattr__(self, "base_model", with_home(self.base_model))
        if self.keep_best > self.num_generations:
            raise KeyProblem(
                ("keep_best", "num_generations"),
                f"found {self.keep_best} answers to keep of {self.num_generations}; expected at most as many "
                "as are sampled.",
            )


@dataclass(frozen=True)
class BestOfNConfig(Recipe):
    """Best-of-N sampling."""

    model: ModelConfig
    data: DataConfig
    rewards: RewardsConfig
    best_of_n: BestOfNOptions = field(default_factory=BestOfNOptions)

    def check(self) -> None:
        for key in _OF_TRAINING:
            if getattr(self.data, key):
                raise KeyProblem((key,), "this has no effect: every row of datasets is a prompt; remove it.")


def parse_best_of_n(argv: Sequence[str] | None = None) -> BestOfNConfig:
    """The recipe from ``--config RECIPE.yaml --key value …``; see :func:`load_config`."""
    return load_config(BestOfNConfig, argv, command="best-of-n")
