"""Logits of whole sequences, read inside the model's own ``forward`` at the tokens that a batch names.

transformers' sequence classifiers look for the last token that is not the pad id, which misses the end of a
sequence where pad and end-of-sequence are the same token, and finds one place in a packed row. Here the batch
says where each sequence ends. It happens inside ``forward`` because DistributedDataParallel and FSDP
synchronise gradients for what goes through the wrapped model's ``forward`` alone.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from hf_align.errors import UserError


@dataclass
class SequenceOutput(ModelOutput):
    """``logits`` (A, C) float32: those of each sequence, differentiable."""

    logits: torch.Tensor | None = None


def reads_last_token(model: PreTrainedModel) -> bool:
    """Whether the model scores a sequence at one of its tokens, as decoders do; others pool."""
    head = getattr(model, "score", None)
    # An adapter that trains the head in full holds it in a wrapper, beside the one it began with.
    return isinstance(getattr(head, "original_module", head), torch.nn.Linear)


def install_sequence_head(
    model: PreTrainedModel, output: Callable[[torch.Tensor], ModelOutput] = SequenceOutput
) -> None:
    """Teach ``model.forward`` the keyword ``last_tokens`` (A,) int64; it then returns ``output(logits)``.

    ``model``: a sequence classifier of transformers. ``last_tokens`` counts through ``input_ids``: row x
    width + column. The head runs in the type of its own weights, and logits are float32: bfloat16 is too
    coarse for differences. A model that pools keeps its own pooling; its sequences are rows, and only their
    order is taken from ``last_tokens``. Without the keyword nothing changes. Raises UserError for a model
    that pools the last position, padding or not.
    """
    # An instance may already carry a patched forward (Accelerate's device hooks do): it is kept and called.
    patched = model.__dict__.get("forward")
    by_token = reads_last_token(model)
    if not by_token and getattr(model.config, "summary_type", None) == "last":
        raise UserError(
            f"{type(model).__name__} reads the last position of a row, which is padding where the row is "
            "shorter than others; take a model with another head, such as a decoder, BERT or RoBERTa"
        )

    @functools.wraps(type(model).forward)
    def forward(
        self: PreTrainedModel, *args: Any, last_tokens: torch.Tensor | None = None, **kwargs: Any
    ) -> Any:
        original = patched or functools.partial(type(self).forward, self)
        if last_tokens is None:
            return original(*args, **kwargs)
        given = {name: value for name, value in kwargs.items() if value is not None}
        if not by_token:
            return output(original(*args, **given).logits.float())
        states = self.base_model(*args, **given, use_cache=False).last_hidden_state
        return output(_logits(self.score, states.flatten(0, 1)[last_tokens]))

    # Bound as a method, so that a deep copy of the model gets a forward of its own.
    model.forward = types.MethodType(forward, model)


def _logits(head: torch.nn.Module, states: torch.Tensor) -> torch.Tensor:
    """``states`` (A, d) to logits (A, C), in the type of the head's weights."""
    dtype = next(head.parameters()).dtype
    with torch.autocast(states.device.type, enabled=False):
        return head(states.to(dtype)).float()
