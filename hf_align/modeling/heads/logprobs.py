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


LOWEST = -1000.0
"""In an entropy, lower log-probabilities count as this one: exp of it is 0 in float32."""


def token_logps(
    logits: torch.Tensor, labels: torch.Tensor, *, temperature: float = 1.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """``logits`` (N, V) of any floating type, ``labels`` (N,) int64 to ``(logps, correct)``.

    ``logps`` (N,) float32, in nats: z[n, labels[n]] - logsumexp(z[n]), differentiable, with z the logits
    divided by ``temperature`` > 0 in float32. ``correct`` (N,) bool: no token was more probable.
    """
    logps, correct, _ = _TokenLogps.apply(logits, labels, temperature, False)
    return logps, correct


def token_logps_and_entropies(
    logits: torch.Tensor, labels: torch.Tensor, *, temperature: float = 1.0
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """As :func:`token_logps`, and ``entropies`` (N,) float32: those of the whole distributions, in nats,
    differentiable."""
    logps, correct, entropies = _TokenLogps.apply(logits, labels, temperature, True)
    return logps, correct, entropies


@torch.no_grad()
def log_collisions(logits: torch.Tensor, *, temperature: float = 1.0) -> torch.Tensor:
    """(N,) float32: log of the sum of p^2 over the vocabulary, in nats, without a gradient.

    That is log of the probability that two draws are the same token. ``logits`` (N, V) of any floating type.
    """
    found = torch.empty(len(logits), dtype=torch.float32, device=logits.device)
    for rows in _pieces(logits):
        piece = _scaled(logits[rows].float(), temperature)
        found[rows] = torch.logsumexp(2 * piece, dim=1) - 2 * torch.logsumexp(piece, dim=1)
    return found


class _TokenLogps(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, logits: torch.Tensor, labels: torch.Tensor, temperature: float, with_entropy: bool
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        largest = torch.empty(len(logits), dtype=torch.float32, device=logits.device)
        log_totals = torch.empty_like(largest)
        entropies = torch.empty_like(largest) if with_entropy else largest.new_empty(0)
        for rows in _pieces(logits):
            piece = _scaled(logits[rows].float(), temperature)
            largest[rows] = piece.amax(dim=1)
            # Shifted by the largest logit, so that exp cannot overflow.
            shifted = torch.sub(piece, largest[rows, None])
            exponentials = shifted.exp() if with_entropy else shifted.exp_()
            totals = exponentials.sum(dim=1)
            log_totals[rows] = totals.log()
            if with_entropy:
                # H = log sum e^s - sum p s, with s the shifted logits; a logit of -inf adds nothing.
                weighted = exponentials.mul_(shifted.clamp_(min=LOWEST))
                entropies[rows] = log_totals[rows] - weighted.sum(dim=1) / totals
        chosen = _scaled(logits.gather(1, labels[:, None]).squeeze(1).float(), temperature)
        correct = chosen >= largest
        ctx.temperature, ctx.with_entropy = temperature, with_entropy
        ctx.save_for_backward(logits, labels, largest + log_totals, entropies)
        ctx.mark_non_differentiable(correct)
        # In this order: the sum of a large logit and a small logarithm would be rounded.
        return (chosen - largest) - log_totals, correct, entropies

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, grad: torch.Tensor, _: Any, entropy_grad: torch.Tensor
    ) -> tuple[torch.Tensor, None, None, None]:
        """d logp[y] / dz = onehot(y) - p and dH / dz = -p (log p + H), with z = logits / temperature."""
        logits, labels, normalisers, entropies = ctx.saved_tensors
        grad = _scaled(grad, ctx.temperature)
        result = torch.empty_like(logits)
        for rows in _pieces(logits):
            log_probabilities = torch.sub(
                _scaled(logits[rows].float(), ctx.temperature), normalisers[rows, None]
            )
            if ctx.with_entropy:
                piece = log_probabilities.exp()
                log_probabilities.clamp_(min=LOWEST).add_(entropies[rows, None])
                weight = _scaled(entropy_grad[rows, None], ctx.temperature)
                piece.mul_(log_probabilities.mul_(-weight).sub_(grad[rows, None]))
            else:
                piece = log_probabilities.exp_()
                piece.mul_(-grad[rows, None])
            piece.scatter_add_(1, labels[rows, None], grad[rows, None])
            result[rows] = piece
        return result, None, None, None


def _scaled(values: torch.Tensor, temperature: float) -> torch.Tensor:
    """At temperature 1 the values themselves, without a copy."""
    return values if temperature == 1 else values / temperature


def _pieces(logits: torch.Tensor) -> list[slice]:
    size = PIECE.get(logits.device.type, PIECE["other"])
    rows = max(1, size // max(1, logits.shape[1]))
    return [slice(start, start + rows) for start in range(0, len(logits), rows)]
