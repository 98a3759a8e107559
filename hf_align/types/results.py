"""What is computed on a micro-batch: an objective's losses, and the log-probabilities of answer pairs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import torch


@dataclass(frozen=True)
class LossOutput:
    """What an objective returns for one micro-batch.

    ``loss_sum``: scalar, the loss in nats summed over ``count`` units (target tokens for language
    modelling, prompts for comparisons); the training loop divides by the units of the whole optimizer
    step. ``metrics``: sums over the same units, for logging; detached scalars. ``details``: detached values
    for each example, kept while evaluating, where a metric needs all of them.
    """

    loss_sum: torch.Tensor
    count: int
    metrics: dict[str, torch.Tensor] = field(default_factory=dict)
    details: dict[str, torch.Tensor] = field(default_factory=dict)


class PairLogps(NamedTuple):
    """Log-probabilities of B answer pairs: token sums in nats, and token counts; each (B,)."""

    chosen: torch.Tensor
    rejected: torch.Tensor
    chosen_length: torch.Tensor
    rejected_length: torch.Tensor
