"""Scores of whole sequences, read inside the model's own ``forward`` at the tokens that a batch names.

transformers' sequence classifiers look for the last token that is not the pad id, which misses the end of a
sequence where pad and end-of-sequence are the same token, and finds one place in a packed row. Here the batch
says where each sequence ends. It happens inside ``forward`` because DistributedDataParallel and FSDP
synchronise gradients for what goes through the wrapped model's ``forward`` alone.
"""

from __future__ import annotations

import functools
import types
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.utils import ModelOutput


@dataclass
class RewardOutput(ModelOutput):
    """``scores`` (A,) float32: the reward of each sequence, differentiable."""

    scores: torch.Tensor | None = None


def reads_last_token(model: PreTrainedModel) -> bool:
    """Whether the model scores a sequence at one of its tokens, as decoders do; encoders pool."""
    return isinstance(getattr(model, "score", None), torch.nn.Linear)


def install_reward_head(model: PreTrainedModel) -> None:
    """Teach ``model.forward`` the keyword ``last_tokens`` (A,) int64; it then returns :class:`RewardOutput`.

    ``model``: a sequence classifier with one label. ``last_tokens`` counts through ``input_ids``:
    row x width + column. The head runs in float32: bfloat16 is too coarse for differences. An encoder
    keeps its own pooling; its sequences are rows, and only their order is taken from ``last_tokens``.
    Without the keyword nothing changes.
    """
    # An instance may already carry a patched forward (Accelerate's device hooks do): it is kept and called.
    patched = model.__dict__.get("forward")
    by_token = reads_last_token(model)

    @functools.wraps(type(model).forward)
    def forward(
        self: PreTrainedModel, *args: Any, last_tokens: torch.Tensor | None = None, **kwargs: Any
    ) -> Any:
        original = patched or functools.partial(type(self).forward, self)
        if last_tokens is None:
            return original(*args, **kwargs)
        given = {name: value for name, value in kwargs.items() if value is not None}
        if not by_token:
            return RewardOutput(scores=original(*args, **given).logits[:, 0].float())
        states = self.base_model(*args, **given, use_cache=False).last_hidden_state
        return RewardOutput(scores=_score(self.score, states.flatten(0, 1)[last_tokens]))

    # Bound as a method, so that a deep copy of the model gets a forward of its own.
    model.forward = types.MethodType(forward, model)


def _score(head: torch.nn.Module, states: torch.Tensor) -> torch.Tensor:
    """``states`` (A, d) to scores (A,), in the type of the head's weights."""
    dtype = next(head.parameters()).dtype
    with torch.autocast(states.device.type, enabled=False):
        return head(states.to(dtype)).squeeze(-1).float()
