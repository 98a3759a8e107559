"""Checks of what a loss is called with: shapes, and the range of an option. All raise ValueError."""

from __future__ import annotations

import math

import torch


def check_shapes(**tensors: torch.Tensor) -> None:
    """All tensors have the same shape; broadcasting (B,) against (B, 1) would silently give B x B losses."""
    shapes = {name.replace("_", " "): tuple(tensor.shape) for name, tensor in tensors.items()}
    if len(set(shapes.values())) > 1:
        found = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise ValueError(f"expected tensors of one shape, found {found}")


def check_sign(name: str, value: float, *, zero: bool = False) -> None:
    """``value`` is finite and above 0, or at least 0 where ``zero``."""
    if not math.isfinite(value) or value < 0 or (value == 0 and not zero):
        raise ValueError(f"{name}: found {value}, expected a number {'of at least' if zero else 'above'} 0")


def check_share(name: str, value: float, *, upper: float | None = None, below: float | None = None) -> None:
    """``value`` is at least 0 and at most ``upper``, or less than ``below``."""
    if not (value >= 0 and (upper is None or value <= upper) and (below is None or value < below)):
        limit = f"at most {upper:g}" if below is None else f"below {below:g}"
        raise ValueError(f"{name}: found {value}, expected a number from 0 to {limit}")
