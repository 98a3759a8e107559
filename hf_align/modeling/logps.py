"""Log-probabilities of chosen tokens from logits, in float32 and in little memory.

``log_softmax`` followed by a gather keeps two float32 copies of the logits for the backward pass. Here only
the logits as they came (often bfloat16) and one number a row are kept, and both passes go through the rows in
pieces, which on a CPU fit into the cache.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd.function import once_differentiable

PIECE = {"cpu": 2**20, "other": 2**26}
"""Logits per piece: 4 MiB in float32 on a CPU; on other devices large enough to fill them."""


def token_logps(logits: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """``logits`` (N, V) of any floating type, ``labels`` (N,) int64 to ``(logps, correct)``.

    ``logps`` (N,) float32, in nats: logits[n, labels[n]] - logsumexp(logits[n]), differentiable.
    ``correct`` (N,) bool: no token was more probable.
    """
    logps, correct = _TokenLogps.apply(logits, labels)
    return logps, correct


class _TokenLogps(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        largest = torch.empty(len(logits), dtype=torch.float32, device=logits.device)
        log_totals = torch.empty_like(largest)
        for rows in _pieces(logits):
            piece = logits[rows].float()
            largest[rows] = piece.amax(dim=1)
            # Shifted by the largest logit, so that exp cannot overflow.
            exponentials = torch.sub(piece, largest[rows, None]).exp_()
            log_totals[rows] = exponentials.sum(dim=1).log_()
        chosen = logits.gather(1, labels[:, None]).squeeze(1).float()
        correct = chosen >= largest
        ctx.save_for_backward(logits, labels, largest + log_totals)
        ctx.mark_non_differentiable(correct)
        # In this order: the sum of a large logit and a small logarithm would be rounded.
        return (chosen - largest) - log_totals, correct

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor, _: Any) -> tuple[torch.Tensor, None]:
        """d logp[y] / d logits = onehot(y) - softmax."""
        logits, labels, normalisers = ctx.saved_tensors
        result = torch.empty_like(logits)
        for rows in _pieces(logits):
            piece = torch.sub(logits[rows].float(), normalisers[rows, None]).exp_()
            piece.mul_(-grad[rows, None])
            piece.scatter_add_(1, labels[rows, None], grad[rows, None])
            result[rows] = piece
        return result, None


def _pieces(logits: torch.Tensor) -> list[slice]:
    size = PIECE.get(logits.device.type, PIECE["other"])
    rows = max(1, size // max(1, logits.shape[1]))
    return [slice(start, start + rows) for start in range(0, len(logits), rows)]
