"""Experts one token at a time, for tests of whether sequences influence each other to the last bit.

A mixture of experts multiplies the tokens that chose an expert together, so that the rounding of a token
depends on how many others chose it (1e-7 of its size). That is no leak, and would hide a small one.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import torch

_TAKES = ("hidden_states", "top_k_index", "top_k_weights")


@contextlib.contextmanager
def experts_token_by_token(model: torch.nn.Module) -> Iterator[None]:
    """Let every layer of experts of ``model`` compute each token by itself while inside."""
    changed: list[tuple[Any, Any]] = []
    try:
        for module in model.modules():
            if tuple(inspect.signature(type(module).forward).parameters)[1:4] == _TAKES:
                changed.append((module, vars(module).get("forward")))
                module.forward = _one_by_one(module.forward)
        yield
    finally:
        for module, before in changed:
            if before is None:
                del module.forward
            else:
                module.forward = before


def _one_by_one(forward: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    def each(hidden_states: torch.Tensor, top_k_index: Any, top_k_weights: Any) -> torch.Tensor:
        tokens = zip(*(x.split(1) for x in (hidden_states, top_k_index, top_k_weights)), strict=True)
        return torch.cat([forward(*token) for token in tokens])

    return each
