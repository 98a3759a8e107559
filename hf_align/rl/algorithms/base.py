"""What tells one RL algorithm from another: advantages of a rollout, and a loss of each token.

An algorithm is one file here and its line in ``table``. What this leaves out: everything that all of them
share, which is the loop (sampling, rewards, steps, checkpoints, recording and replay).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from hf_align.losses import kl_estimate, probability_ratio
from hf_align.rl.episodes import EpisodeBatch, EpisodeRow
from hf_align.types import LossOutput


@dataclass(frozen=True)
class ScoredRollout:
    """B answers of up to T tokens, those of all processes, ordered by prompt.

    ``prompts`` (B,): the number of each answer's prompt. ``scores`` (B,) float32: rewards after penalty,
    normalisation and clipping. ``stopped`` (B,) bool: ended by itself, not by the limit. ``mask`` (B, T): the
    tokens of each answer. (B, T) float32: ``logps`` and
    ``reference_logps`` in nats, ``kl``, the estimate of the recipe made of them, and ``values``, in the unit
    of the score (0 where the algorithm has no value model). ``kl_coef``: the weight of the KL divergence.
    """

    prompts: torch.Tensor
    scores: torch.Tensor
    stopped: torch.Tensor
    mask: torch.Tensor
    logps: torch.Tensor
    reference_logps: torch.Tensor
    kl: torch.Tensor
    values: torch.Tensor
    kl_coef: float


@dataclass(frozen=True)
class Advantages:
    """What an algorithm makes of a rollout; tables are (B, T), and 0 behind each answer.

    ``columns``: what its loss is given of each token, with ``advantages`` among them. ``metrics``: what is
    logged. ``shown``: what else a replay shows of each token (names in ``replay.view.TOKEN_COLUMNS``).
    """

    columns: dict[str, torch.Tensor]
    metrics: dict[str, float] = field(default_factory=dict)
    shown: dict[str, torch.Tensor] = field(default_factory=dict)


class TokenObjective(ABC):
    """``(module, batch)`` to losses summed over the N sampled tokens, in the unit of the score.

    ``module``: a ``PolicyWithValue``, wrapped or not. The loss of a step is the sum over its :meth:`units`.
    """

    def __call__(self, module: torch.nn.Module, batch: EpisodeBatch) -> LossOutput:
        losses, metrics = self.of_tokens(module, batch)
        sums = {name: tokens.detach().sum() for name, tokens in {"loss": losses, **metrics}.items()}
        sums[TOKENS] = torch.tensor(float(len(losses)), device=losses.device)
        return LossOutput(loss_sum=losses.sum(), count=len(losses), metrics=sums)

    @property
    def checks_clipping(self) -> bool:
        """Whether no ratio may be clipped before the first step but for rounding; not where the range is so
        narrow, or a ratio made of so many numbers, that rounding alone goes beyond it."""
        return True

    def units(self, row: EpisodeRow) -> int:
        """What the losses of a row are a mean over: its sampled tokens, unless an algorithm counts others."""
        return row.target_tokens

    @abstractmethod
    def of_tokens(
        self, module: torch.nn.Module, batch: EpisodeBatch
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The loss of each token (N,), and what is logged of them, (N,) each.

        The loop needs what :func:`ratio_metrics` returns. Names that end with ``_loss`` are parts of the
        loss, which a replay shows of each token; they are means over units, as the loss is, all others means
        over the tokens.
        """


TOKENS = "tokens"
"""The metric that counts sampled tokens; what is not a loss is divided by it."""


def is_loss(name: str) -> bool:
    """Whether a metric is the loss or a part of it."""
    return name == "loss" or name.endswith("_loss")


def ratio_metrics(
    logps: torch.Tensor,
    old_logps: torch.Tensor,
    *,
    clip_range: float,
    clip_range_high: float | None = None,
) -> dict[str, torch.Tensor]:
    """How far each token (N,) has moved from the policy that sampled it; all without gradient."""
    high = clip_range if clip_range_high is None else clip_range_high
    with torch.no_grad():
        ratio = probability_ratio(logps, old_logps)
        return {
            "ratio": ratio,
            "ratio_deviation": (ratio - 1).abs(),
            # Of the policy that sampled from the one that is trained, on tokens of the former.
            "approx_kl": kl_estimate(old_logps, logps, kind="k3"),
            "clip_fraction": clipped_share(ratio, clip_range, high),
        }


def clipped_share(ratios: torch.Tensor, low: float, high: float) -> torch.Tensor:
    """(N,) 1 where a ratio lies below 1 - ``low`` or above 1 + ``high``, else 0."""
    return ((ratios - 1 > high) | (1 - ratios > low)).float()


@dataclass(frozen=True)
class Algorithm:
    """``advantages``: of a rollout, by the options of the recipe. ``objective``: the loss by these options.
    ``has_values``: whether a value estimate is trained beside the policy. ``kl_penalty``: where the KL
    divergence from the reference is taken off: the rewards of tokens, the score of an answer, or the loss."""

    advantages: Callable[[ScoredRollout, Any], Advantages]
    objective: Callable[[Any], TokenObjective]
    has_values: bool = False
    kl_penalty: Literal["tokens", "answer", "loss"] = "tokens"
