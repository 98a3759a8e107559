"""Causal attention inside three segments as its formula says, to hold the package's own against."""

from __future__ import annotations

import torch

from hf_align.types import Segments

LENGTHS = (5, 1, 9)


def segments() -> Segments:
    return Segments((0, 5, 6), LENGTHS, torch.tensor([0, 5, 6, 15], dtype=torch.int32))


def textbook(q, k, v, scaling, window, softcap) -> torch.Tensor:
    """softmax(cap(q k^T * s) + mask) v with an explicit block-diagonal causal mask."""
    k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for x in (k, v))
    owner = torch.repeat_interleave(torch.arange(len(LENGTHS)), torch.tensor(LENGTHS))
    place = torch.arange(sum(LENGTHS))
    allowed = (owner[:, None] == owner[None, :]) & (place[:, None] >= place[None, :])
    if window is not None:
        allowed &= place[:, None] - place[None, :] < window
    scores = q @ k.transpose(-1, -2) * scaling
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    return (scores.masked_fill(~allowed, float("-inf")).softmax(-1) @ v).transpose(1, 2)
