"""REINFORCE leave-one-out: an answer against the mean of the others to its prompt, as one action.

Source: Ahmadian et al. 2024, arXiv 2402.14740; clipped ratios of whole answers as TRL's RLOOTrainer has them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from hf_align.losses import answer_log_ratios, leave_one_out_advantages, policy_loss, probability_ratio
from hf_align.losses.groups import EPSILON
from hf_align.rl.algorithms.answers import AnswerObjective, answer_lengths, of_answers
from hf_align.rl.algorithms.base import Advantages, Algorithm, ScoredRollout, clipped_share
from hf_align.rl.episodes import EpisodeBatch

if TYPE_CHECKING:
    from hf_align.rl.grpo.recipe import GrpoOptionsConfig


def rloo_advantages(rollout: ScoredRollout, options: GrpoOptionsConfig) -> Advantages:
    """The score less ``beta`` times the KL divergence of the answer, against the other answers' mean."""
    divergence = torch.where(rollout.mask, rollout.kl, 0.0).sum(dim=1)
    raw = leave_one_out_advantages(rollout.scores - rollout.kl_coef * divergence, rollout.prompts)
    advantages = raw
    if options.normalize_advantages and len(raw) > 1:
        advantages = (raw - raw.mean()) / (raw.std() + EPSILON)
    return of_answers(rollout, advantages, options, loss_type="grpo", raw=raw)


@dataclass(frozen=True)
class RlooObjective(AnswerObjective):
    """The clipped loss with the ratio of the probabilities of whole answers; a mean over answers."""

    @property
    def checks_clipping(self) -> bool:
        """Logarithms are summed over an answer, and so is rounding."""
        return False

    def losses(
        self, logps: torch.Tensor, batch: EpisodeBatch
    ) -> tuple[torch.Tensor, torch.Tensor | None, dict[str, torch.Tensor]]:
        known = batch.columns
        log_ratios = answer_log_ratios(logps - known["old_logps"], answer_lengths(batch), reduction="sum")
        start = torch.zeros_like(log_ratios)
        loss = policy_loss(
            log_ratios,
            start,
            known["advantages"],
            clip_range=self.epsilon,
            clip_range_high=self.epsilon_high,
        )
        ratios = probability_ratio(log_ratios.detach(), start)
        return loss, None, {"clip_fraction": clipped_share(ratios, self.epsilon, self.epsilon_high)}


def rloo_objective(options: GrpoOptionsConfig) -> RlooObjective:
    """The loss of a mini-batch with the coefficients of ``options``."""
    return RlooObjective(
        per_answer=True,
        temperature=options.temperature,
        epsilon=options.epsilon,
        epsilon_high=options.epsilon if options.epsilon_high is None else options.epsilon_high,
    )


RLOO = Algorithm(rloo_advantages, rloo_objective, kl_penalty="answer")
