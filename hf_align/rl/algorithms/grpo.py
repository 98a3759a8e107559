"""Group-relative policy optimisation, and the losses that descend from it: DAPO, Dr. GRPO, GSPO, CISPO.

Sources: Shao et al. 2024, arXiv 2402.03300; the others where ``losses.groups`` names them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch

from hf_align.losses import (
    answer_log_ratios,
    cispo_loss,
    group_relative_advantages,
    kl_estimate,
    policy_loss,
    probability_ratio,
)
from hf_align.rl.algorithms.answers import AnswerObjective, answer_lengths, of_answers, per_answer
from hf_align.rl.algorithms.base import Advantages, Algorithm, ScoredRollout, clipped_share
from hf_align.rl.episodes import EpisodeBatch

if TYPE_CHECKING:
    from hf_align.rl.grpo.recipe import GrpoOptionsConfig


def grpo_advantages(rollout: ScoredRollout, options: GrpoOptionsConfig) -> Advantages:
    """The score less the mean of its group, scaled by ``scale_rewards``, for each token of the answer."""
    centred = group_relative_advantages(rollout.scores, rollout.prompts, scale="none")
    scaled = group_relative_advantages(rollout.scores, rollout.prompts, scale=options.scale_rewards)
    return of_answers(rollout, scaled, options, raw=centred)


@dataclass(frozen=True)
class GrpoObjective(AnswerObjective):
    """The clipped loss, with ratios of tokens or of answers, and the KL divergence in the loss.

    ``cispo``: the other loss, whose ratios are limited to ``epsilon_high``. ``ratio_in_kl``: multiply the
    divergence by the ratio (``use_bias_correction_kl``).
    """

    level: Literal["token", "sequence"] = "token"
    cispo: bool = False
    ratio_in_kl: bool = True

    @property
    def checks_clipping(self) -> bool:
        """Ratios of answers have ranges that rounding alone can leave."""
        return self.level == "token"

    def losses(
        self, logps: torch.Tensor, batch: EpisodeBatch
    ) -> tuple[torch.Tensor, torch.Tensor | None, dict[str, torch.Tensor]]:
        known = batch.columns
        log_ratios = logps - known["old_logps"]
        if self.level == "sequence":
            log_ratios = answer_log_ratios(log_ratios, answer_lengths(batch), reduction="mean")
        start = torch.zeros_like(log_ratios)
        ratios = probability_ratio(log_ratios, start)
        if self.cispo:
            loss = cispo_loss(logps, ratios, known["advantages"], ratio_max=self.epsilon_high)
        else:
            loss = policy_loss(
                log_ratios,
                start,
                known["advantages"],
                clip_range=self.epsilon,
                clip_range_high=self.epsilon_high,
            )
        divergence = None
        if self.beta:
            divergence = kl_estimate(logps, known["reference_logps"], kind="k3")
            if self.ratio_in_kl:
                divergence = divergence * ratios
        if self.cispo:
            clipped = (ratios > self.epsilon_high).float()
        else:
            clipped = clipped_share(ratios, self.epsilon, self.epsilon_high)
        return loss, divergence, {"clip_fraction": clipped}


def grpo_objective(options: GrpoOptionsConfig) -> GrpoObjective:
    """The loss of a mini-batch with the coefficients of ``options``."""
    return GrpoObjective(
        per_answer=per_answer(options),
        temperature=options.temperature,
        epsilon=options.epsilon,
        epsilon_high=options.epsilon if options.epsilon_high is None else options.epsilon_high,
        beta=options.kl_coef,
        level=options.importance_sampling_level,
        cispo=options.loss_type == "cispo",
        ratio_in_kl=options.use_bias_correction_kl,
    )


GRPO = Algorithm(grpo_advantages, grpo_objective, kl_penalty="loss")
