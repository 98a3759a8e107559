"""What tells one RL algorithm from another: advantages of a rollout, and a loss of each token.

An algorithm is one file here and its line in ``table``. What this leaves out: everything that all of them
share, which is the loop (sampling, rewards, steps, checkpoints, recording and replay).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from hf_align.losses import kl_estimate, probability_ratio
from hf_align.rl.episodes import EpisodeBatch
from hf_align.types import LossOutput


@dataclass(frozen=True)
class ScoredRollout:
    """B answers of up to T tokens, those of all processes, ordered by prompt.

    ``prompts`` (B,): the number of each answer's prompt. ``scores`` (B,) float32: rewards after penalty,
    normalisation and clipping. ``mask`` (B, T): the tokens of each answer. (B, T) float32: ``logps`` and
    ``reference_logps`` in nats, ``kl``, the estimate of the recipe made of them, and ``values``, in the unit
    of the score (0 where the algorithm has no value model). ``kl_coef``: the weight of the KL divergence.
    """

    prompts: torch.Tensor
    scores: torch.Tensor
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

    ``module``: a ``PolicyWithValue``, wrapped or not.
    """

    def __call__(self, module: torch.nn.Module, batch: EpisodeBatch) -> LossOutput:
        losses, metrics = self.of_tokens(module, batch)
        return LossOutput(
            loss_sum=losses.sum(),
            count=len(losses),
            metrics={name: tokens.detach().sum() for name, tokens in {"loss": losses, **metrics}.items()},
        )

    @abstractmethod
    def of_tokens(
        self, module: torch.nn.Module, batch: EpisodeBatch
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The loss of each token (N,), and what is logged of them, (N,) each.

        The loop needs what :func:`ratio_metrics` returns. Names that end with ``_loss`` are parts of the
        loss, which a replay shows of each token.
        """


def ratio_metrics(
    logps: torch.Tensor, old_logps: torch.Tensor, *, clip_range: float
) -> dict[str, torch.Tensor]:
    """How far each token (N,) has moved from the policy that sampled it; all without gradient."""
    with torch.no_grad():
        ratio = probability_ratio(logps, old_logps)
        return {
            "ratio": ratio,
            "ratio_deviation": (ratio - 1).abs(),
            # Of the policy that sampled from the one that is trained, on tokens of the former.
            "approx_kl": kl_estimate(old_logps, logps, kind="k3"),
            "clip_fraction": ((ratio - 1).abs() > clip_range).float(),
        }


@dataclass(frozen=True)
class Algorithm:
    """``advantages``: of a rollout, by the options of the recipe. ``objective``: the loss by these options.
    ``has_values``: whether a value estimate is trained beside the policy."""

    advantages: Callable[[ScoredRollout, Any], Advantages]
    objective: Callable[[Any], TokenObjective]
    has_values: bool = False
