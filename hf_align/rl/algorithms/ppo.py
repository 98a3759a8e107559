"""Proximal policy optimisation: generalised advantage estimation, clipped losses of policy and value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from hf_align.losses import (
    generalized_advantage_estimation,
    masked_mean,
    masked_whiten,
    policy_loss,
    value_loss,
)
from hf_align.losses.token_rewards import explained_variance, token_rewards
from hf_align.modeling.inputs import model_inputs
from hf_align.rl.algorithms.base import (
    Advantages,
    Algorithm,
    ScoredRollout,
    TokenObjective,
    ratio_metrics,
)
from hf_align.rl.episodes import EpisodeBatch

if TYPE_CHECKING:
    from hf_align.rl.recipe import PpoOptionsConfig


def ppo_advantages(rollout: ScoredRollout, options: PpoOptionsConfig) -> Advantages:
    """The score as the reward of the last token, the KL divergence as a penalty of each; then GAE.

    Columns: ``advantages``, ``returns`` and ``old_values``, in the unit of the score.
    """
    mask, values = rollout.mask, rollout.values
    rewards = token_rewards(rollout.kl, rollout.scores, mask, kl_coef=rollout.kl_coef)
    if options.whiten_rewards:
        rewards = masked_whiten(rewards, mask, shift_mean=False)
    raw_advantages, returns = generalized_advantage_estimation(
        rewards, values, mask, gamma=options.gamma, lam=options.lam
    )
    advantages = masked_whiten(raw_advantages, mask) if options.whiten_advantages else raw_advantages
    return Advantages(
        {"advantages": advantages, "returns": returns, "old_values": values},
        {
            "values": masked_mean(values, mask).item(),
            "returns": masked_mean(returns, mask).item(),
            "explained_variance": explained_variance(values, returns, mask),
        },
        {"value": values, "reward": rewards, "return": returns, "raw advantage": raw_advantages},
    )


@dataclass(frozen=True)
class PpoObjective(TokenObjective):
    """L = L_policy + vf_coef * L_value - entropy_coef * H. ``temperature``: that of sampling.

    A column ``weights``, if there is one, multiplies the loss of the policy (``losses.importance``).

    Source: Schulman et al. 2017, arXiv 1707.06347, equation 9.
    """

    clip_range: float
    clip_range_value: float
    vf_coef: float
    entropy_coef: float
    temperature: float

    def of_tokens(
        self, module: torch.nn.Module, batch: EpisodeBatch
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        output = module(
            **model_inputs(batch.inputs),
            temperature=self.temperature,
            with_entropies=self.entropy_coef > 0,
        )
        logps, values, known = output["logps"], output["state_values"], batch.columns
        policy = policy_loss(logps, known["old_logps"], known["advantages"], clip_range=self.clip_range)
        if "weights" in known:
            policy = known["weights"] * policy
        value = value_loss(values, known["old_values"], known["returns"], clip_range=self.clip_range_value)
        losses = policy + self.vf_coef * value
        metrics = {"policy_loss": policy, "value_loss": value}
        if self.entropy_coef:
            losses = losses - self.entropy_coef * output["entropies"]
            metrics["entropy_loss"] = -output["entropies"]
        metrics |= ratio_metrics(logps, known["old_logps"], clip_range=self.clip_range)
        moved = (values.detach() - known["old_values"]).abs()
        return losses, metrics | {"value_clip_fraction": (moved > self.clip_range_value).float()}


def ppo_objective(options: PpoOptionsConfig) -> PpoObjective:
    """The loss of a mini-batch with the coefficients of ``options``."""
    return PpoObjective(
        clip_range=options.clip_range,
        clip_range_value=options.clip_range_value,
        vf_coef=options.vf_coef,
        entropy_coef=options.entropy_coef,
        temperature=options.temperature,
    )


PPO = Algorithm(ppo_advantages, ppo_objective, has_values=True)
