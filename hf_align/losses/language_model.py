"""Next-token prediction: the loss per target token and the metrics that are read from it."""

from __future__ import annotations

import math

import torch


def negative_log_likelihood(logps: torch.Tensor) -> torch.Tensor:
    """Loss per target token in nats: -log p(y_t | x, y_<t).

    ``logps`` (N,) or (B, T), natural logarithm; the result has the same shape. Supervised fine-tuning sums
    it over the targets of an optimizer step and divides by their number.
    """
    return -logps


def perplexity(mean_nll: float) -> float:
    """exp of the mean negative log-likelihood per token (nats); infinity where that overflows."""
    try:
        return math.exp(mean_nll)
    except OverflowError:
        return math.inf
