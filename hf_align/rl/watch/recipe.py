"""Options of the watch over a reward: how it is checked beforehand, and what would show that it is hacked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from hf_align.config.data import DatasetConfig
from hf_align.config.fields import option, specs_of
from hf_align.config.group import Group, KeyProblem, with_home
from hf_align.rewards.recipe import RewardsConfig

_REWARDS = ("watch_reward_model", "watch_reward_functions")
_LIMITS = ("watch_max_drop", "watch_max_kl", "watch_max_length_ratio", "watch_max_repetition_rise")


@dataclass(frozen=True)
class WatchConfig(Group):
    """A second reward that is never trained on, limits, and what happens where one is passed."""

    title: ClassVar[str] = "Reward check and reward-hacking watch"

    reward_check_pairs: list[DatasetConfig] = option(
        factory=list,
        help="compared answers, in any format of `hf-align reward`, on which reward models are checked "
        "before training; without them, by the metrics in a reward model's own run folder",
        one_or_list=True,
        changes="outputs",
    )
    watch_reward_model: list[str] = option(
        factory=list,
        help="reward models that the policy is not trained on, in the forms of reward_model",
        one_or_list=True,
        changes="outputs",
    )
    watch_reward_functions: list[str] = option(
        factory=list,
        help="Python functions that the policy is not trained on, in the form of reward_functions",
        one_or_list=True,
        changes="outputs",
    )
    watch_reward_model_input: Literal["conversation", "answer"] = option(
        "conversation", help="what watch_reward_model reads, as in reward_model_input", changes="outputs"
    )
    watch_action: Literal["warn", "stop", "roll_back"] = option(
        "warn",
        help="what happens when the watch fires: a warning; or, after it, the run saves and ends; or it ends "
        "with the last checkpoint from before",
        changes="outputs",
    )
    watch_window: int = option(
        4,
        ge=1,
        help="rollouts whose mean is compared, with the first ones or with the best ones",
        changes="outputs",
    )
    watch_patience: int = option(
        3,
        ge=1,
        help="rollouts in a row at which a limit has to be passed before the watch fires",
        changes="outputs",
    )
    watch_max_drop: float | None = option(
        0.5,
        gt=0,
        help="how far a watch reward may fall from its best while the training reward rises, in standard "
        "deviations of its scores in the first rollouts; null: any",
        changes="outputs",
    )
    watch_max_kl: float | None = option(
        30.0,
        gt=0,
        help="largest divergence from the reference, nats summed over an answer; null: any",
        changes="outputs",
    )
    watch_max_length_ratio: float | None = option(
        3.0,
        gt=1,
        help="how many times as long, or as short, answers may become; null: any",
        changes="outputs",
    )
    watch_max_repetition_rise: float | None = option(
        0.2,
        gt=0,
        lt=1,
        help="by how much the share of repeated 4-grams in an answer may rise; null: any",
        changes="outputs",
    )

    def check(self) -> None:
        for key in _REWARDS:
            object.__setattr__(self, key, [with_home(name) for name in getattr(self, key)])
        if not self.has_rewards:
            for key in ("watch_max_drop", "watch_reward_model_input"):
                if getattr(self, key) not in (specs_of(type(self))[key].default, None):
                    raise KeyProblem(
                        (key, *_REWARDS), "this has no effect without a watch reward; remove it."
                    )
        elif not self.watch_reward_model and self.watch_reward_model_input != "conversation":
            raise KeyProblem(
                ("watch_reward_model_input", "watch_reward_model"),
                "this has no effect without a watch_reward_model; remove it.",
            )
        if self.has_rewards:
            self.rewards()
        if self.watch_action != "warn" and not self.watches:
            raise KeyProblem(
                ("watch_action", *_LIMITS), "every limit is null, so that the watch can never fire; set one."
            )

    @property
    def has_rewards(self) -> bool:
        """Whether there is a reward that the policy is not trained on."""
        return bool(self.watch_reward_model or self.watch_reward_functions)

    @property
    def watches(self) -> bool:
        """Whether anything can make the watch fire."""
        drop = self.has_rewards and self.watch_max_drop is not None
        return drop or any(getattr(self, key) is not None for key in _LIMITS[1:])

    def rewards(self) -> RewardsConfig:
        """The watch rewards in the form in which the rewards of training are given.

        Raises :class:`KeyProblem` under their own keys.
        """
        try:
            return RewardsConfig(
                reward_model=list(self.watch_reward_model),
                reward_functions=list(self.watch_reward_functions),
                reward_model_input=self.watch_reward_model_input,
            )
        except KeyProblem as problem:
            keys = tuple(f"watch_{key}" for key in problem.keys)
            raise KeyProblem(keys, problem.reason) from None


def check_not_trained_on(watch: WatchConfig, rewards: RewardsConfig) -> None:
    """Raise :class:`KeyProblem` where a watch reward is one that the policy is trained on."""
    for key in ("reward_model", "reward_functions"):
        for name in getattr(watch, f"watch_{key}"):
            if name in getattr(rewards, key):
                raise KeyProblem(
                    (f"watch_{key}", key),
                    f"'{name}' is trained on, so it rises with the training reward whatever the answers are "
                    "worth; expected a reward that the policy never sees.",
                )
