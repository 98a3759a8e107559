"""What the algorithms without values share: columns of an update, metrics of groups, the objective.

Each of them is a file beside this one: how it makes advantages, and the loss of a token.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from hf_align.losses import counts_answers, equal_scores, group_deviations, loss_weights, masked_mean
from hf_align.losses.groups import LossType
from hf_align.modeling.inputs import model_inputs
from hf_align.rl.algorithms.base import Advantages, ScoredRollout, TokenObjective, ratio_metrics
from hf_align.rl.episodes import EpisodeBatch, EpisodeRow

if TYPE_CHECKING:
    from hf_align.rl.grpo.recipe import GrpoOptionsConfig

WEIGHTS = "loss_weights"
"""The column with the factor of each token in the sum of losses; 0 for one that is left out."""


def of_answers(
    rollout: ScoredRollout,
    advantages: torch.Tensor,
    options: GrpoOptionsConfig,
    *,
    loss_type: LossType | None = None,
    raw: torch.Tensor | None = None,
) -> Advantages:
    """The columns of an update, and what is logged of groups.

    ``advantages``, ``raw``: (B, T), or (B,) for what all tokens of an answer share; ``raw``: before they were
    scaled. ``loss_type``: that of the options, unless the algorithm has one of its own.
    """
    mask = rollout.mask
    trained = mask
    if options.mask_truncated_completions:
        trained = mask & rollout.stopped[:, None]
    weights = loss_weights(trained, loss_type or options.loss_type, max_length=options.max_completion_length)
    shown = {} if raw is None else {"raw advantage": _spread(raw, mask)}
    spread = _spread(advantages, mask)
    metrics = {"advantage_std": _deviation(spread, mask)}
    if options.num_generations > 1:
        metrics |= group_metrics(rollout)
    if options.mask_truncated_completions:
        metrics["masked_answers"] = float((~rollout.stopped).float().mean())
    return Advantages({"advantages": spread, WEIGHTS: weights}, metrics, shown)


def _spread(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """(B, T) of (B,) or (B, T), 0 behind each answer."""
    return torch.where(mask, values if values.ndim == 2 else values[:, None], 0.0)


def _deviation(values: torch.Tensor, mask: torch.Tensor) -> float:
    mean = masked_mean(values, mask)
    return float(masked_mean((values - mean) ** 2, mask).sqrt())


def group_metrics(rollout: ScoredRollout) -> dict[str, float]:
    """``frac_reward_zero_std``: the share of groups whose scores are all equal, which teach nothing by
    comparison. ``group_score_std``: the mean over groups of their deviation. ``length_score_correlation``:
    Pearson's correlation of the lengths of answers and their scores, 0 where either does not vary."""
    scores, groups = rollout.scores, rollout.prompts
    firsts = torch.cat([torch.tensor([True]), groups[1:] != groups[:-1]])  # ordered by prompt
    lengths = rollout.mask.sum(dim=1).float()
    return {
        "frac_reward_zero_std": float(equal_scores(scores, groups)[firsts].float().mean()),
        "group_score_std": float(group_deviations(scores, groups)[firsts].mean()),
        "length_score_correlation": _correlation(lengths, scores),
    }


def _correlation(one: torch.Tensor, other: torch.Tensor) -> float:
    one, other = one.double() - one.double().mean(), other.double() - other.double().mean()
    product = float(one.norm() * other.norm())
    return float((one * other).sum()) / product if product > 0 else 0.0


@dataclass(frozen=True)
class AnswerObjective(TokenObjective):
    """Losses of tokens with weights, over the answers or the tokens of a step.

    ``per_answer``: whether the mean is one over answers. ``temperature``: that of sampling. ``epsilon``,
    ``epsilon_high``: the range of ratios. ``beta``: weight of the KL divergence in the loss.
    """

    per_answer: bool
    temperature: float
    epsilon: float
    epsilon_high: float
    beta: float = 0.0

    def units(self, row: EpisodeRow) -> int:
        """The answers of a row, or those of their tokens that are not left out."""
        if self.per_answer:
            return len(row.branches)
        return int(np.count_nonzero(row.columns[WEIGHTS]))

    def of_tokens(
        self, module: torch.nn.Module, batch: EpisodeBatch
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        known = batch.columns
        logps = module(**model_inputs(batch.inputs), temperature=self.temperature)["logps"]
        metrics = ratio_metrics(
            logps, known["old_logps"], clip_range=self.epsilon, clip_range_high=self.epsilon_high
        )
        policy, divergence, own = self.losses(logps, batch)
        if "weights" in known:  # importance weights of another sampler
            policy = known["weights"] * policy
        losses = {"policy_loss": known[WEIGHTS] * policy}
        if divergence is not None:
            losses["kl_loss"] = known[WEIGHTS] * self.beta * divergence
        total = torch.stack(list(losses.values())).sum(dim=0)
        return total, {**losses, **metrics, **own}

    @abstractmethod
    def losses(
        self, logps: torch.Tensor, batch: EpisodeBatch
    ) -> tuple[torch.Tensor, torch.Tensor | None, dict[str, torch.Tensor]]:
        """Of each token (N,): the loss of the policy, the KL divergence that is added to it or None, and
        metrics in place of those of :func:`ratio_metrics`. ``logps`` (N,): of the policy, in nats."""


def per_answer(options: GrpoOptionsConfig) -> bool:
    """Whether losses are a mean over answers, by ``loss_type``."""
    return counts_answers(options.loss_type)


def answer_lengths(batch: EpisodeBatch) -> torch.Tensor:
    """(A,) the tokens of each answer of a micro-batch, in the order of its columns."""
    lengths = [branch.target_tokens for row in batch.rows for branch in row.branches]
    return torch.tensor(lengths, device=batch.columns["old_logps"].device)
