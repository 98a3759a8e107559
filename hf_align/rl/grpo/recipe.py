"""The recipe of group-relative policy optimisation and its kin: answers that are held against each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from hf_align.config import shared
from hf_align.config.fields import option
from hf_align.config.group import KeyProblem
from hf_align.config.loader import load_config
from hf_align.rl.algorithms.options import RlOptionsConfig
from hf_align.rl.recipe import PpoTrainingConfig, RlConfig

AlgorithmName = Literal["grpo", "rloo", "reinforce", "reinforce_pp"]

_DEFAULTS: dict[str, tuple[int, float]] = {
    "grpo": (8, 0.0),
    "rloo": (2, 0.05),
    "reinforce": (1, 0.05),
    "reinforce_pp": (1, 0.05),
}
"""Answers to a prompt, and weight of the KL divergence: TRL's, and for the last two OpenRLHF's one answer."""

_GRPO = ("algorithm", ("grpo",))
_REINFORCE = ("algorithm", ("reinforce", "reinforce_pp"))
_DYNAMIC = ("dynamic_sampling", (True,))
_TOKEN_LOSSES = ("dapo", "bnpo", "grpo", "dr_grpo")


@dataclass(frozen=True)
class GrpoOptionsConfig(RlOptionsConfig):
    """Rollouts, advantages and losses. Names and defaults are those of TRL's GRPOConfig and RLOOConfig where
    they have one."""

    title: ClassVar[str] = "GRPO"
    length_key: ClassVar[str] = "max_completion_length"

    algorithm: AlgorithmName = option(
        "grpo",
        help="grpo: the score against the group's mean; rloo: against that of the other answers; reinforce: "
        "the score itself, or less a baseline; reinforce_pp: that, normalised over all tokens and clipped",
    )
    num_generations: int | None = option(  # type: ignore[assignment]
        None,
        ge=1,
        help="answers sampled to each prompt, its group; null: 8 for grpo, 2 for rloo, otherwise 1",
        also=("samples_per_prompt",),
    )
    max_completion_length: int = option(512, ge=1, help="longest answer in tokens", also=("max_new_tokens",))
    num_iterations: int = option(1, ge=1, help="passes over the answers of a rollout (mu in the paper)")

    beta: float | None = option(
        None,
        ge=0,
        help="weight of the KL divergence from the reference: in the loss for grpo, in the reward for the "
        "others; null: 0 for grpo, otherwise 0.05",
        changes="loss",
    )
    use_bias_correction_kl: bool = option(
        True,
        help="multiply the KL divergence in the loss by the ratio, which makes its gradient that of the "
        "divergence; the GRPO paper does not",
        needs=_GRPO,
    )
    epsilon: float = option(0.2, gt=0, help="a ratio is clipped to at least 1 minus this")
    epsilon_high: float | None = option(
        None,
        gt=0,
        help="a ratio is clipped to at most 1 plus this; null: epsilon (DAPO: 0.28). For cispo the largest "
        "weight itself (5.0)",
    )
    loss_type: Literal["dapo", "grpo", "dr_grpo", "bnpo", "cispo"] = option(
        "dapo",
        help="dapo and bnpo: mean over all tokens of a step; grpo: mean over answers of their mean over "
        "tokens; dr_grpo: over answers and max_completion_length; cispo: as dapo, weights are clipped and no "
        "gradient is",
        needs=("algorithm", ("grpo", "reinforce", "reinforce_pp")),
        changes="loss",
    )
    importance_sampling_level: Literal["token", "sequence"] = option(
        "token",
        help="ratios of tokens, or one for an answer, the exponential of its mean log-ratio (GSPO, which "
        "also has loss_type: grpo)",
        needs=_GRPO,
    )
    scale_rewards: Literal["group", "batch", "none"] = option(
        "group",
        help="divide advantages by the deviation of the group's scores, of all scores, or by nothing",
        needs=_GRPO,
    )
    normalize_advantages: bool = option(
        False, help="scale advantages to mean 0 and variance 1 in a rollout", needs=("algorithm", ("rloo",))
    )
    baseline: Literal["none", "batch", "group"] = option(
        "none",
        help="subtract nothing from a score, the mean of all of the rollout, or that of its group",
        needs=_REINFORCE,
    )
    gamma: float = option(1.0, gt=0, le=1, help="discount a token", needs=_REINFORCE)
    mask_truncated_completions: bool = option(
        False, help="leave answers that the token limit cut off out of the loss"
    )
    soft_punish_cache: int | None = option(  # type: ignore[misc]
        None,
        ge=1,
        help="within so many tokens of max_completion_length the score falls linearly, by 1 at the limit "
        "(DAPO's soft overlong penalty); null: not",
    )
    dynamic_sampling: bool = option(  # type: ignore[misc]
        False, help="draw groups again whose answers all have the same reward (DAPO)"
    )
    max_resamples: int = option(3, ge=1, help="how often such a group is drawn again at most", needs=_DYNAMIC)

    def check(self) -> None:
        answers, beta = _DEFAULTS[self.algorithm]
        if self.num_generations is None:
            object.__setattr__(self, "num_generations", answers)
        if self.beta is None:
            object.__setattr__(self, "beta", beta)
        super().check()
        self._check_groups()
        if self.soft_punish_cache is not None and self.soft_punish_cache > self.max_completion_length:
            raise KeyProblem(
                ("soft_punish_cache", "max_completion_length"),
                f"found {self.soft_punish_cache} tokens below a limit of {self.max_completion_length}; "
                "expected at most that.",
            )
        if self.loss_type == "cispo":
            if self.algorithm != "grpo":
                raise KeyProblem(
                    ("loss_type", "algorithm"),
                    f"cispo is a loss of grpo; expected one of {', '.join(_TOKEN_LOSSES)}.",
                )
            if self.epsilon_high is None or self.epsilon_high < 1:
                raise KeyProblem(
                    ("epsilon_high", "loss_type"),
                    "for cispo this is the largest weight of a token itself, not a distance from 1; expected "
                    "1 or more, such as 5.0.",
                )
        if self.algorithm == "reinforce" and self.steps_per_rollout > 1:
            raise KeyProblem(
                ("num_iterations", "num_mini_batches"),
                "REINFORCE has no ratio that corrects for a policy which has moved since it sampled: one "
                "optimizer step a rollout; take reinforce_pp for more.",
            )

    def _check_groups(self) -> None:
        if self.num_generations is None or self.num_generations > 1:
            return
        needs_others = {
            "algorithm": self.algorithm in ("grpo", "rloo"),
            "baseline": self.baseline == "group",
            "dynamic_sampling": self.dynamic_sampling,
        }
        for key, needed in needs_others.items():
            if needed:
                raise KeyProblem(
                    ("num_generations", key),
                    f"found {self.num_generations}; {key}: {_plain(getattr(self, key))} holds an answer "
                    "against others to its prompt. Expected 2 or more.",
                )

    @property
    def max_new_tokens(self) -> int:
        """``max_completion_length``."""
        return self.max_completion_length

    @property
    def update_epochs(self) -> int:
        """``num_iterations``."""
        return self.num_iterations

    @property
    def kl_coef(self) -> float:
        """``beta``."""
        return float(self.beta or 0.0)

    @property
    def kl_estimator(self) -> Literal["k1", "k3"]:
        """The estimate that the algorithm's penalty is made of."""
        return "k3" if self.algorithm == "grpo" else "k1"


def _plain(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


@dataclass(frozen=True)
class GrpoTrainingConfig(PpoTrainingConfig):
    """The parts of the training loop that RL has, with TRL's defaults for GRPO."""

    method: ClassVar[str] = "GRPO"

    output_dir: str = shared.output_dir("runs/grpo")
    learning_rate: float = option(1e-6, gt=0, help="peak learning rate; an adapter takes about 10 times more")
    adam_epsilon: float = option(1e-8, gt=0, help="Adam's epsilon")


@dataclass(frozen=True)
class GrpoConfig(RlConfig):
    """Group-relative policy optimisation and its kin on prompts; the data are those of fine-tuning."""

    command: ClassVar[str] = "grpo"
    method: ClassVar[str] = "GRPO"

    grpo: GrpoOptionsConfig = field(default_factory=GrpoOptionsConfig)
    training: GrpoTrainingConfig = field(default_factory=GrpoTrainingConfig)

    @property
    def options(self) -> GrpoOptionsConfig:
        """``grpo``."""
        return self.grpo


def parse_grpo(argv: Sequence[str] | None = None) -> GrpoConfig:
    """The recipe from ``--config RECIPE.yaml --key value …``; see :func:`load_config`."""
    return load_config(GrpoConfig, argv, command="grpo")
