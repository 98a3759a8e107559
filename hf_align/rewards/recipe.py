"""Options of the rewards: what gives an answer its score, wherever answers are sampled and scored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from hf_align.config.fields import option
from hf_align.config.group import Group, KeyProblem, with_home
from hf_align.errors import UserError, did_you_mean
from hf_align.rewards.verifiable.table import VERIFIERS, is_verifier, verifier

_SOURCES = ("reward_functions", "reward_model")
_WITH_MODEL = "reward_model"


@dataclass(frozen=True)
class RewardsConfig(Group):
    """Reward models, Python functions, or a weighted sum of several."""

    title: ClassVar[str] = "Rewards"

    reward_model: list[str] = option(
        factory=list,
        help="run folders of `hf-align reward`, or other sequence classification models with one score",
        one_or_list=True,
        changes="inputs",
    )
    reward_functions: list[str] = option(
        factory=list,
        help="Python functions, each as file.py:name; name(prompts, completions, rows) gives a number for "
        "each completion. The file is run: it can do anything that you can. Or a reward that comes with "
        f"hf_align: {', '.join(VERIFIERS)}",
        one_or_list=True,
        changes="inputs",
        also=("reward_funcs",),
    )
    reward_options: dict[str, dict[str, str | bool | int | float | list[str]]] = option(
        factory=dict,
        help="what the rewards that come with hf_align take, by their name, such as "
        "{numeric: {column: answer}}",
        later=True,
    )
    reward_weights: list[float] | None = option(
        None,
        help="a factor for each reward, models first, then functions; null: 1 each",
        non_empty=True,
        one_or_list=True,
    )
    reward_model_input: Literal["conversation", "answer"] = option(
        "conversation",
        help="what reward models read: prompt and answer in their own chat template, or the answer alone",
    )
    center_reward_models: bool = option(
        False, help="subtract from a reward model's score its mean on the reference set stored with it"
    )
    missing_eos_penalty: float | None = option(
        None, ge=0, help="taken off the reward of an answer that the token limit cut off; null: nothing"
    )

    def check(self) -> None:
        object.__setattr__(self, "reward_model", [with_home(path) for path in self.reward_model])
        object.__setattr__(self, "reward_functions", [with_home(name) for name in self.reward_functions])
        if not self.reward_model and not self.reward_functions:
            raise KeyProblem(
                _SOURCES, "there is no reward; give reward_functions (file.py:name), a reward_model, or both."
            )
        for key in _SOURCES:
            self._check_names(key)
        for name in self.reward_functions:
            if not is_verifier(name):
                split_function(name)
        for name in self.reward_options:
            if name not in self.reward_functions:
                raise KeyProblem(
                    ("reward_options", "reward_functions"),
                    f"'{name}' is none of the reward_functions; name it there, or remove its options.",
                )
            if not is_verifier(name):
                raise KeyProblem(
                    ("reward_options",),
                    f"'{name}' is a function of your own, which takes none; they are for "
                    f"{', '.join(VERIFIERS)}.",
                )
        for name in filter(is_verifier, self.reward_functions):
            try:
                verifier(name, self.reward_options.get(name, {}))
            except UserError as problem:
                raise KeyProblem(
                    ("reward_options",), str(problem).removeprefix("reward_options: ")
                ) from problem
        self._check_weights()
        for key in ("reward_model_input", "center_reward_models"):
            if not self.reward_model and getattr(self, key) not in ("conversation", False):
                raise KeyProblem((key, _WITH_MODEL), "this has no effect without a reward_model; remove it.")

    @property
    def weights(self) -> list[float]:
        """The factor of each reward, models first, then functions."""
        count = len(self.reward_model) + len(self.reward_functions)
        return [1.0] * count if self.reward_weights is None else list(self.reward_weights)

    def _check_names(self, key: str) -> None:
        names: list[str] = getattr(self, key)
        for name in names:
            if not name.strip():
                raise KeyProblem((key,), "found an empty text, expected a name.")
            if names.count(name) > 1:
                raise KeyProblem((key,), f"'{name}' is given twice; expected each reward once.")

    def _check_weights(self) -> None:
        if self.reward_weights is None:
            return
        count = len(self.reward_model) + len(self.reward_functions)
        if len(self.reward_weights) != count:
            raise KeyProblem(
                ("reward_weights", *(key for key in _SOURCES if getattr(self, key))),
                f"found {len(self.reward_weights)} for {count} rewards; expected one for each, those of "
                "models first, then those of functions.",
            )
        if 0.0 in self.reward_weights:
            raise KeyProblem(("reward_weights",), "a weight of 0 leaves a reward out; remove that reward.")


def split_function(name: str) -> tuple[str, str]:
    """(file, function) of ``file.py:function``. Raises :class:`KeyProblem` where it is no such name."""
    file, colon, function = name.rpartition(":")
    if not colon or not file.endswith(".py") or not function.isidentifier():
        raise KeyProblem(
            ("reward_functions",),
            f"found the text {name!r}, expected a Python file and the name of a function in it, as in "
            f"rewards.py:score, or one of {', '.join(VERIFIERS)}.{did_you_mean(name, VERIFIERS)}",
        )
    return file, function
