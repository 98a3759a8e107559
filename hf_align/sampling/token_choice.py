"""The next token of every sequence: the likeliest, or the one that a random number picks."""

from __future__ import annotations

import torch
from torch.nn import functional

from hf_align.errors import UserError
from hf_align.sampling.options import Sampling

BLOCK = 256
"""Tokens of the vocabulary that are summed before one of them is looked for."""


def choose_tokens(
    logits: torch.Tensor, sampling: Sampling, draws: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """``logits`` (R, V) float32 to chosen tokens (R,) int64 and their log-probabilities (R,) in nats.

    Temperature 0 takes the likeliest token. Otherwise logits are divided by the temperature, then the
    ``top_k`` likeliest are kept (0: all), then the smallest set of them that holds ``top_p`` of the
    probability, and the token is the one at which the cumulative distribution passes ``draws`` (R,) from
    [0, 1), by default from torch's global generator. The log-probability is that of the whole distribution
    at that temperature, which is what a policy is trained on.
    """
    if sampling.temperature == 0:
        chosen = logits.argmax(dim=-1)
        return chosen, _logps(logits, chosen)
    if draws is None:
        draws = torch.rand(len(logits), dtype=torch.float64, device=logits.device)
    scaled = logits if sampling.temperature == 1 else logits / sampling.temperature
    narrowed = _narrowed(scaled, sampling)
    probabilities = torch.softmax(narrowed, dim=-1)
    chosen = _draw(probabilities, draws)
    if narrowed is not scaled:
        return chosen, _logps(scaled, chosen)
    return chosen, probabilities.gather(1, chosen[:, None]).squeeze(1).log()


def check_finite(logps: torch.Tensor) -> None:
    """Raise UserError where a log-probability of a chosen token is no finite number: the model's logits are
    none either, and what was chosen means nothing."""
    if not bool(torch.isfinite(logps).all()):
        raise UserError(
            "the model gives logits that are not finite numbers, so that nothing can be chosen by them. "
            "Compute in another number format (dtype: float32 or bfloat16), or look at its weights"
        )


def _logps(logits: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
    return logits.gather(1, chosen[:, None]).squeeze(1) - torch.logsumexp(logits, dim=-1)


def _draw(probabilities: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
    """Invert the cumulative distributions (R, V) at ``draws`` (R,): the block of tokens, then the token.

    One number for each sequence, where torch.multinomial draws one for each token of the vocabulary.
    """
    rows, vocabulary = probabilities.shape
    blocks = functional.pad(probabilities, (0, -vocabulary % BLOCK)).view(rows, -1, BLOCK)
    reached = blocks.sum(dim=-1).cumsum(dim=-1, dtype=torch.float64)
    block, wanted = _inverted(reached, draws * reached[:, -1])
    inside = blocks[torch.arange(rows, device=blocks.device), block].cumsum(dim=-1, dtype=torch.float64)
    # Of numbers that are none nothing is found; an index that is not there would end a GPU's process.
    return (block * BLOCK + _inverted(inside, wanted)[0]).clamp(max=vocabulary - 1)


def _inverted(reached: torch.Tensor, wanted: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(first column (R,) where ``reached`` (R, N) is more than ``wanted`` (R,), how much was left there)."""
    total = reached[:, -1]
    # Rounding must not lead past the last column that has any probability.
    wanted = torch.minimum(wanted, torch.nextafter(total, torch.zeros_like(total)))
    column = torch.searchsorted(reached, wanted[:, None], right=True).clamp(max=reached.shape[1] - 1)
    before = functional.pad(reached, (1, 0)).gather(1, column).squeeze(1)
    return column.squeeze(1), (wanted - before).clamp(min=0)


def _narrowed(logits: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    if 0 < sampling.top_k < logits.shape[-1]:
        least = logits.topk(sampling.top_k, dim=-1).values[:, -1:]
        logits = logits.masked_fill(logits < least, float("-inf"))
    if sampling.top_p < 1:
        ordered, order = logits.sort(dim=-1, descending=True)
        probabilities = torch.softmax(ordered, dim=-1)
        # A token goes where those before it already hold enough; the likeliest always stays.
        gone = probabilities.cumsum(dim=-1) - probabilities >= sampling.top_p
        logits = logits.masked_fill(gone.scatter(1, order, gone), float("-inf"))
    return logits
