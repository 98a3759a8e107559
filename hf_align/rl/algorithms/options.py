"""What the options of every RL algorithm have: rollouts, their sampling, and the steps of an update."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from hf_align.config import shared
from hf_align.config.fields import option
from hf_align.config.group import Group, KeyProblem


@dataclass(frozen=True)
class RlOptionsConfig(Group):
    """Options that the loop of every algorithm reads; the options of a recipe add their own.

    ``length_key``: the key of the longest answer. Below it, what an algorithm may have, and where it is off.
    """

    length_key: ClassVar[str] = "max_new_tokens"
    adaptive_kl: ClassVar[bool] = False
    whiten_rewards: ClassVar[bool] = False
    whiten_advantages: ClassVar[bool] = False
    dynamic_sampling: ClassVar[bool] = False
    soft_punish_cache: ClassVar[int | None] = None

    rollout_batch_size: int = option(64, ge=1, help="prompts of a rollout, over all processes")
    num_generations: int = option(
        1,
        ge=1,
        help="answers sampled to each of them; the prompt is read once",
        also=("samples_per_prompt",),
    )
    num_rollouts: int | None = option(
        None, ge=1, help="rollouts, each followed by an update; null: as many as see every prompt once"
    )
    total_episodes: int | None = option(
        None, ge=1, help="sampled answers of the whole run, in place of num_rollouts; rounded up to rollouts"
    )
    temperature: float = option(
        1.0, gt=0, help="divides the logits, where answers are sampled and where they are trained alike"
    )
    top_p: float = shared.top_p()
    top_k: int = shared.top_k()
    generation_batch_size: int = option(
        64, ge=1, help="answers written at once", changes="rounding", also=("max_rows_at_once",)
    )
    num_mini_batches: int = option(
        1, ge=1, help="optimizer steps in a pass over the answers; each takes whole prompts"
    )
    kl_stop: float | None = option(
        None, gt=0, help="end an update once it has moved the policy by so many nats per token (approx_kl)"
    )
    normalize_scores: bool = option(
        False, help="subtract the running mean of all scores so far and divide by their deviation"
    )
    score_clip: float | None = option(
        None, gt=0, help="clip scores to plus or minus this, after normalisation"
    )

    def check(self) -> None:
        if self.num_rollouts is not None and self.total_episodes is not None:
            raise KeyProblem(
                ("num_rollouts", "total_episodes"), "both say how long the run is; give one of them."
            )
        if self.num_mini_batches > self.rollout_batch_size:
            raise KeyProblem(
                ("num_mini_batches", "rollout_batch_size"),
                f"{self.rollout_batch_size} prompts cannot be split into {self.num_mini_batches} parts; "
                "expected at most one for each prompt.",
            )

    @property
    def algorithm(self) -> str:
        """Its name in ``algorithms.table``."""
        raise NotImplementedError

    @property
    def max_new_tokens(self) -> int:
        """The longest answer in tokens."""
        raise NotImplementedError

    @property
    def update_epochs(self) -> int:
        """Passes over the answers of a rollout."""
        raise NotImplementedError

    @property
    def kl_coef(self) -> float:
        """The weight of the KL divergence from the reference, when the run begins."""
        raise NotImplementedError

    @property
    def kl_estimator(self) -> Literal["k1", "k3"]:
        """The estimate of that divergence which is logged."""
        raise NotImplementedError

    @property
    def steps_per_rollout(self) -> int:
        """Optimizer steps that are planned for each rollout."""
        return self.update_epochs * self.num_mini_batches

    @property
    def episodes_per_rollout(self) -> int:
        """Sampled answers of a rollout, over all processes."""
        return self.rollout_batch_size * self.num_generations

    def rollouts(self, prompts: int) -> int:
        """Rollouts of a run on data with so many ``prompts``."""
        if self.num_rollouts is not None:
            return self.num_rollouts
        if self.total_episodes is not None:
            return math.ceil(self.total_episodes / self.episodes_per_rollout)
        return math.ceil(prompts / self.rollout_batch_size)
