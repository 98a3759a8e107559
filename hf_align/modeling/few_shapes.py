"""Few shapes: lengths that differ from batch to batch are rounded up to some that come again.

oneDNN, the library behind PyTorch's half-precision products on a CPU, compiles code for every shape that it
meets, which takes milliseconds, and keeps it: more than half a MiB for each product (``runs.memory``
limits how many). Rows of text never have the same length twice, so that every step would compile anew
what it multiplies, and a run would grow for as long as it lasts. The compiled code also lies between what a
step frees, so that the free pieces fit the next step less and less.

So what is added to a length is computed and thrown away: the filler of a packed row (``inputs``), rows of the
heads (``heads``), the end of a segment in attention (``attention.loop``, ``attention.cpu``). Nothing that
counts sees it, and its gradient is zero.
"""

from __future__ import annotations

import torch
from torch.nn import functional

TILE = 16
"""Rows that a CPU's matrix unit takes at once; the smallest step between two lengths."""


def compiles(states: torch.Tensor) -> bool:
    """Whether products of ``states`` are compiled for their shape: on a CPU in half precision."""
    if states.device.type != "cpu":
        return False
    return states.dtype in (torch.bfloat16, torch.float16) or torch.is_autocast_enabled("cpu")


def few_length(length: int, per_octave: int = 16, multiple: int = TILE) -> int:
    """The next length of those used: of ``multiple``, and ``per_octave`` of them between two powers of two.

    With 16 of them at most 1/16 is added above 256, a thirty-second on average.
    """
    # The largest power of two below the length.
    octave = 1 << max(0, (length - 1).bit_length() - 1)
    step = max(multiple, octave // per_octave)
    return -(-length // step) * step


def pad_rows_to(tensor: torch.Tensor, rows: int) -> torch.Tensor:
    """``tensor`` (n, ...) with rows of zeros behind its own, (rows, ...)."""
    if len(tensor) == rows:
        return tensor
    return functional.pad(tensor, (0, 0) * (tensor.ndim - 1) + (0, rows - len(tensor)))
