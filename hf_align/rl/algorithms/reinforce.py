"""REINFORCE, with a baseline or without, and REINFORCE++, which normalises over all tokens and clips.

The gradient of an expected reward needs no derivative of the reward: it is the expectation of the reward
times the gradient of log pi. A baseline that does not depend on the answer leaves it as it is and lowers
its variance.

Sources: Williams 1992; Hu et al. 2025, arXiv 2501.03262.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from hf_align.losses import discounted_returns, group_means, masked_whiten, policy_loss, reinforce_loss
from hf_align.losses.token_rewards import token_rewards
from hf_align.rl.algorithms.answers import AnswerObjective, of_answers, per_answer
from hf_align.rl.algorithms.base import Advantages, Algorithm, ScoredRollout
from hf_align.rl.episodes import EpisodeBatch

if TYPE_CHECKING:
    from hf_align.rl.grpo.recipe import GrpoOptionsConfig


def token_returns(rollout: ScoredRollout, options: GrpoOptionsConfig) -> torch.Tensor:
    """(B, T) the discounted rewards from each token on: the score less its baseline at the last token, less
    ``beta`` times the KL divergence at each."""
    scores = rollout.scores
    if options.baseline == "batch":
        scores = scores - scores.mean()
    elif options.baseline == "group":
        scores = scores - group_means(scores, rollout.prompts)
    rewards = token_rewards(rollout.kl, scores, rollout.mask, kl_coef=rollout.kl_coef)
    return discounted_returns(rewards, rollout.mask, gamma=options.gamma)


def reinforce_advantages(rollout: ScoredRollout, options: GrpoOptionsConfig) -> Advantages:
    """The returns themselves."""
    return of_answers(rollout, token_returns(rollout, options), options)


def reinforce_pp_advantages(rollout: ScoredRollout, options: GrpoOptionsConfig) -> Advantages:
    """The returns, with mean 0 and variance 1 over all tokens of the rollout."""
    returns = token_returns(rollout, options)
    return of_answers(rollout, masked_whiten(returns, rollout.mask), options, raw=returns)


@dataclass(frozen=True)
class ReinforceObjective(AnswerObjective):
    """-A log pi, or the clipped loss of PPO where ``clipped``."""

    clipped: bool = False

    def losses(
        self, logps: torch.Tensor, batch: EpisodeBatch
    ) -> tuple[torch.Tensor, torch.Tensor | None, dict[str, torch.Tensor]]:
        known = batch.columns
        if not self.clipped:
            return reinforce_loss(logps, known["advantages"]), None, {}
        loss = policy_loss(
            logps,
            known["old_logps"],
            known["advantages"],
            clip_range=self.epsilon,
            clip_range_high=self.epsilon_high,
        )
        return loss, None, {}


def _objective(options: GrpoOptionsConfig, *, clipped: bool) -> ReinforceObjective:
    return ReinforceObjective(
        per_answer=per_answer(options),
        temperature=options.temperature,
        epsilon=options.epsilon,
        epsilon_high=options.epsilon if options.epsilon_high is None else options.epsilon_high,
        clipped=clipped,
    )


REINFORCE = Algorithm(reinforce_advantages, lambda options: _objective(options, clipped=False))
REINFORCE_PP = Algorithm(reinforce_pp_advantages, lambda options: _objective(options, clipped=True))
