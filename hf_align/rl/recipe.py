"""The recipe of proximal policy optimisation: its options, and the parts of the training loop that it has."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from hf_align.config import shared
from hf_align.config.adapter import AdapterConfig
from hf_align.config.checks import (
    check_adapter,
    check_data_for_training,
    check_reference,
    check_trainable_weights,
)
from hf_align.config.data import DataConfig
from hf_align.config.fields import option, specs_of
from hf_align.config.group import Group, KeyProblem, Recipe, with_home
from hf_align.config.loader import load_config
from hf_align.config.model import ModelConfig
from hf_align.config.samples import SamplesConfig
from hf_align.config.schedules import Schedule
from hf_align.config.training import TrainingConfig
from hf_align.rewards.recipe import RewardsConfig
from hf_align.rl.vllm.recipe import VllmConfig, check_vllm
from hf_align.rl.watch.recipe import WatchConfig, check_not_trained_on

_ADAPTIVE = ("adaptive_kl", (True,))
_STEERING = 0.2
"""The share of the target to which the controller clips its error (``losses.kl_control``)."""
_SEPARATE = ("value_model", ("separate",))


@dataclass(frozen=True)
class PpoOptionsConfig(Group):
    """Rollouts, rewards for each token, and updates. Names are those of TRL's PPOConfig where it has one."""

    title: ClassVar[str] = "PPO"
    algorithm: ClassVar[str] = "ppo"  # its name in ``algorithms.table``

    rollout_batch_size: int = option(64, ge=1, help="prompts of a rollout, over all processes")
    samples_per_prompt: int = option(1, ge=1, help="answers sampled to each of them; the prompt is read once")
    num_rollouts: int | None = option(
        None, ge=1, help="rollouts, each followed by an update; null: as many as see every prompt once"
    )
    total_episodes: int | None = option(
        None, ge=1, help="sampled answers of the whole run, in place of num_rollouts; rounded up to rollouts"
    )
    max_new_tokens: int = option(64, ge=1, help="longest answer in tokens")
    temperature: float = option(
        1.0, gt=0, help="divides the logits, where answers are sampled and where they are trained alike"
    )
    top_p: float = shared.top_p()
    top_k: int = shared.top_k()
    max_rows_at_once: int = option(64, ge=1, help="answers written at once", changes="rounding")

    num_ppo_epochs: int = option(4, ge=1, help="passes over the answers of a rollout")
    num_mini_batches: int = option(1, ge=1, help="optimizer steps in such a pass; each takes whole prompts")
    clip_range: float = option(0.2, gt=0, help="the policy's ratio is clipped to 1 plus or minus this")
    clip_range_value: float = option(0.2, gt=0, help="values move by at most this, in units of the score")
    vf_coef: float = option(0.1, ge=0, help="weight of the value loss")
    entropy_coef: float = option(0.0, ge=0, help="weight of the entropy, which is added to the objective")
    gamma: float = option(1.0, gt=0, le=1, help="discount a token")
    lam: float = option(0.95, ge=0, le=1, help="lambda of generalised advantage estimation")
    whiten_rewards: bool = option(False, help="scale rewards to variance 1 in a rollout; their mean stays")
    whiten_advantages: bool = option(True, help="scale advantages to mean 0 and variance 1 in a rollout")
    value_model: Literal["policy", "separate"] = option(
        "policy", help="values from a head on the policy's own trunk, or from a second model"
    )
    value_model_name_or_path: str | None = option(
        None,
        help="where the second model comes from, for example a reward model; null: the policy's own base",
        non_empty=True,
        needs=_SEPARATE,
    )
    value_head_init: Literal["zero", "normal"] = option(
        "zero", help="a new value head: zero, or drawn from N(0, 1 / (d + 1)) with d the model's width"
    )

    kl_coef: float = option(0.05, ge=0, help="weight of the KL divergence from the reference, as a reward")
    kl_estimator: Literal["k1", "k3"] = option(
        "k1", help="estimate of the divergence at a token: log-ratio, or k3, which is never below 0"
    )
    adaptive_kl: bool = option(False, help="steer kl_coef, so that the divergence comes near target_kl")
    target_kl: float = option(
        6.0, gt=0, help="divergence that is aimed at, nats summed over an answer", needs=_ADAPTIVE
    )
    kl_horizon: float = option(
        10000.0, gt=0, help="answers over which kl_coef adapts; more of them is slower", needs=_ADAPTIVE
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
        name = with_home(self.value_model_name_or_path)
        object.__setattr__(self, "value_model_name_or_path", name)
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
        if self.adaptive_kl:
            self._check_steering()

    def _check_steering(self) -> None:
        if self.kl_coef == 0:
            raise KeyProblem(
                ("adaptive_kl", "kl_coef"),
                "a weight of 0 stays 0, whatever it is multiplied by; give kl_coef a value above 0.",
            )
        least = _STEERING * self.episodes_per_rollout
        if self.kl_horizon <= least:
            raise KeyProblem(
                ("kl_horizon", "rollout_batch_size"),
                f"found {self.kl_horizon:g}; with {self.episodes_per_rollout} answers a rollout, one of them "
                f"could take kl_coef to 0 or below; expected more than {least:g}.",
            )

    @property
    def episodes_per_rollout(self) -> int:
        """Sampled answers of a rollout, over all processes."""
        return self.rollout_batch_size * self.samples_per_prompt

    def rollouts(self, prompts: int) -> int:
        """Rollouts of a run on data with so many ``prompts``."""
        if self.num_rollouts is not None:
            return self.num_rollouts
        if self.total_episodes is not None:
            return math.ceil(self.total_episodes / self.episodes_per_rollout)
        return math.ceil(prompts / self.rollout_batch_size)


_NOT_HERE = {
    "num_train_epochs": "the length of a run is num_rollouts or total_episodes",
    "max_steps": "the length of a run is num_rollouts or total_episodes",
    "per_device_train_batch_size": "an optimizer step takes rollout_batch_size / num_mini_batches prompts",
    "gradient_accumulation_steps": "an optimizer step takes rollout_batch_size / num_mini_batches prompts",
    "neftune_noise_alpha": "with noise the policy would differ from the one that sampled",
    "torch_compile": "sequences of every length would be compiled anew",
    "load_best_model_at_end": "the last policy is kept",
    "early_stopping_patience": "there is no evaluation loss",
    "logging_steps": "every rollout is logged",
}


@dataclass(frozen=True)
class PpoTrainingConfig(TrainingConfig):
    """The parts of the training loop that PPO has; steps of logging, saving and evaluation are rollouts."""

    output_dir: str = shared.output_dir("runs/ppo")
    learning_rate: float = option(3e-6, gt=0, help="peak learning rate; an adapter takes about 10 times more")
    lr_scheduler_type: Schedule = option("linear", help="learning-rate schedule over all optimizer steps")
    adam_epsilon: float = option(1e-5, gt=0, help="Adam's epsilon")
    save_strategy: Literal["no", "steps", "epoch"] = option(
        "steps", help="when to save a checkpoint", changes="outputs"
    )
    save_steps: int = option(
        20, ge=1, help="save every so many rollouts", needs=("save_strategy", ("steps",)), changes="outputs"
    )
    eval_steps: int | None = option(
        None, ge=1, help="evaluate every so many rollouts", needs=("eval_strategy", ("steps",))
    )
    record_rollouts: bool = option(
        True,
        help="write every rollout to output_dir/rollouts, so that --replay can compute its update again",
        changes="outputs",
    )
    record_limit: int | None = option(
        None,
        ge=1,
        help="rollouts kept there: the newest, and those since the checkpoint before them; null: all",
        needs=("record_rollouts", (True,)),
        changes="outputs",
    )

    def check(self) -> None:
        super().check()
        specs = specs_of(type(self))
        for key, instead in _NOT_HERE.items():
            if getattr(self, key) != specs[key].default:
                raise KeyProblem((key,), f"this has no effect in PPO: {instead}; remove it.")
        for key in ("save_strategy", "eval_strategy"):
            if getattr(self, key) == "epoch":
                raise KeyProblem((key,), "PPO has no epochs over the data; expected steps or no.")


@dataclass(frozen=True)
class PpoConfig(Recipe):
    """Proximal policy optimisation on prompts; the data are those of supervised fine-tuning."""

    model: ModelConfig
    data: DataConfig
    rewards: RewardsConfig = field(default_factory=RewardsConfig)
    watch: WatchConfig = field(default_factory=WatchConfig)
    ppo: PpoOptionsConfig = field(default_factory=PpoOptionsConfig)
    vllm: VllmConfig = field(default_factory=VllmConfig)
    adapter: AdapterConfig = field(default_factory=AdapterConfig)
    training: PpoTrainingConfig = field(default_factory=PpoTrainingConfig)
    samples: SamplesConfig = field(default_factory=SamplesConfig)

    def check(self) -> None:
        check_trainable_weights(self.model, self.adapter)
        check_adapter(self.model, self.adapter, self.training)
        check_reference(self.adapter, "PPO", "Take lora or another adapter that begins as the model itself.")
        if self.data.streaming:
            raise KeyProblem(
                ("streaming",), "prompts are drawn from all rows, rollout after rollout; set it to false."
            )
        check_data_for_training(self.data, self.training)
        if self.data.train_on != "assistant":
            raise KeyProblem(
                ("train_on",),
                f"found {self.data.train_on}; what is trained are the sampled answers. Leave it out.",
            )
        if self.adapter.dropout:
            raise KeyProblem(
                (self.adapter.dropout,),
                "with dropout the policy would differ from the one that sampled; set it to 0.",
            )
        if self.training.precision == "fp16":
            raise KeyProblem(
                ("precision",), "fp16 is too coarse for ratios of probabilities; expected bf16, fp32 or auto."
            )
        check_vllm(
            self.vllm,
            self.adapter,
            temperature=self.ppo.temperature,
            top_p=self.ppo.top_p,
            top_k=self.ppo.top_k,
        )
        check_not_trained_on(self.watch, self.rewards)
        if self.watch.watch_action == "roll_back" and self.training.save_strategy == "no":
            raise KeyProblem(
                ("watch_action", "save_strategy"),
                "without checkpoints there is nothing to roll back to; set save_strategy: steps.",
            )


def parse_ppo(argv: Sequence[str] | None = None) -> PpoConfig:
    """The recipe from ``--config RECIPE.yaml --key value …``; see :func:`load_config`."""
    return load_config(PpoConfig, argv, command="ppo")
