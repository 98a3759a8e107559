"""SpanBERT's span-boundary objective: predict a hidden token from the two tokens around its span.

Joshi et al. 2020, section 3.2. For token i of a span from s to e, with x the encoder's final states and p an
embedding of the token's place in its span (200 wide), h0 = [x_{s-1}; x_{e+1}; p_{i-s+1}] goes twice through
LayerNorm(GELU(Linear(·))), and the input embeddings turn the result into logits: the decoder is tied to them
and has a bias of its own.

``install_span_boundary_head`` teaches a masked language model to compute both objectives in one ``forward``,
inside it for the same reason as in ``modeling.heads.target``. The head belongs to pre-training: it is saved
with the model's weights, and a plain masked language model or encoder loaded from them leaves it out;
``load_span_boundary_head`` reads it where training goes on.
"""

from __future__ import annotations

import functools
import types
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from hf_align.modeling.heads.logprobs import token_logps
from hf_align.modeling.heads.target import install_target_head
from hf_align.types import IGNORE_INDEX

POSITION_WIDTH = 200
"""The width of the embedding of a place in a span, as in the paper."""
MAX_POSITIONS = 32
"""Places that have an embedding of their own; later ones, met in runs of several spans, share the last."""
_PREFIX = "span_boundary."
"""Before the names of the head's weights in those of the model."""


@dataclass
class SpanBoundaryOutput(ModelOutput):
    """For each of N hidden tokens, in row-major order of ``labels``.

    ``loss``: scalar, the mean over them of -(logps + boundary_logps), in nats, or their sum over
    ``num_items_in_batch``. ``logps`` and ``correct`` (N,): log-probability in nats under the masked language
    model, and whether no token was more probable. ``boundary_logps`` and ``boundary_correct`` (N,): the same
    under the span-boundary head.
    """

    loss: torch.Tensor | None = None
    logps: torch.Tensor | None = None
    correct: torch.Tensor | None = None
    boundary_logps: torch.Tensor | None = None
    boundary_correct: torch.Tensor | None = None


class SpanBoundaryHead(torch.nn.Module):
    """States of N pairs of boundary tokens and N places to logits over V tokens.

    ``hidden_size`` d: of the states. ``embedding_size`` e: of the model's input embeddings (d in most).
    """

    def __init__(
        self,
        hidden_size: int,
        embedding_size: int,
        vocabulary_size: int,
        *,
        norm_eps: float = 1e-12,
        initializer_range: float = 0.02,
    ) -> None:
        super().__init__()
        self.positions = torch.nn.Embedding(MAX_POSITIONS, POSITION_WIDTH)
        self.first = torch.nn.Linear(2 * hidden_size + POSITION_WIDTH, hidden_size)
        self.first_norm = torch.nn.LayerNorm(hidden_size, eps=norm_eps)
        self.second = torch.nn.Linear(hidden_size, embedding_size)
        self.second_norm = torch.nn.LayerNorm(embedding_size, eps=norm_eps)
        self.bias = torch.nn.Parameter(torch.zeros(vocabulary_size))
        for module in (self.positions, self.first, self.second):
            torch.nn.init.normal_(module.weight, std=initializer_range)
        for linear in (self.first, self.second):
            torch.nn.init.zeros_(linear.bias)

    def forward(
        self, left: torch.Tensor, right: torch.Tensor, places: torch.Tensor, embeddings: torch.Tensor
    ) -> torch.Tensor:
        """``left`` and ``right`` (N, d), ``places`` (N,) from 0, ``embeddings`` (V, e) to logits (N, V)."""
        position = self.positions(places.clamp(max=MAX_POSITIONS - 1))
        states = torch.cat([left, right, position.to(left.dtype)], dim=-1)
        states = self.first_norm(torch.nn.functional.gelu(self.first(states)))
        states = self.second_norm(torch.nn.functional.gelu(self.second(states)))
        return torch.nn.functional.linear(states.to(embeddings.dtype), embeddings, self.bias)


def install_span_boundary_head(model: PreTrainedModel) -> None:
    """Give a masked language model the head, and teach its ``forward`` the batches of
    ``SpanMaskingCollator``.

    With ``left_boundary``, ``right_boundary`` and ``span_position`` (B, T) beside ``labels`` (B, T),
    ``forward`` runs the encoder once and returns :class:`SpanBoundaryOutput`; without them nothing changes.
    Both heads run on the hidden positions only. New weights are drawn from torch's generator.
    """
    config = model.config.get_text_config()
    table = model.get_input_embeddings().weight
    head = SpanBoundaryHead(
        config.hidden_size,
        table.shape[1],
        table.shape[0],
        norm_eps=getattr(config, "layer_norm_eps", 1e-12),
        initializer_range=getattr(config, "initializer_range", 0.02),
    )
    model.span_boundary = head.to(device=table.device, dtype=table.dtype)
    install_target_head(model)
    # Not bound, so that a deep copy of the model calls its own.
    masked_lm = model.__dict__["forward"].__func__

    @functools.wraps(type(model).forward)
    def forward(
        self: PreTrainedModel,
        *args: Any,
        left_boundary: torch.Tensor | None = None,
        right_boundary: torch.Tensor | None = None,
        span_position: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        if left_boundary is None:
            return masked_lm(self, *args, **kwargs)
        labels = kwargs.pop("labels")
        units = kwargs.pop("num_items_in_batch", None)
        states: list[torch.Tensor] = []
        # The first call of the encoder is the real one; the head of the masked language model makes another.
        catch = self.base_model.register_forward_hook(
            lambda module, inputs, output: states.append(output.last_hidden_state) if not states else None
        )
        try:
            masked = masked_lm(self, *args, shift_labels=labels, **kwargs)
        finally:
            catch.remove()
        hidden = labels != IGNORE_INDEX
        row = hidden.nonzero()[:, 0]
        logits = self.span_boundary(
            states[0][row, left_boundary[hidden]],
            states[0][row, right_boundary[hidden]],
            span_position[hidden],
            self.get_input_embeddings().weight,
        )
        logps, correct = token_logps(logits, labels[hidden])
        total = -(masked["logps"] + logps).sum()
        return SpanBoundaryOutput(
            loss=total / (units if units is not None else max(1, len(logps))),
            logps=masked["logps"],
            correct=masked["correct"],
            boundary_logps=logps,
            boundary_correct=correct,
        )

    model.forward = types.MethodType(forward, model)


def load_span_boundary_head(model: PreTrainedModel, folder: str | Path) -> bool:
    """Give an installed head the weights that were saved in ``folder`` with the model's own.

    Returns whether there are any: not in the folder of another kind of model, nor under a hub name. Raises
    RuntimeError where they have other shapes.
    """
    from safetensors import safe_open

    found: dict[str, torch.Tensor] = {}
    for path in sorted(Path(folder).glob("model*.safetensors")):
        with safe_open(path, framework="pt") as weights:
            found |= {
                name.removeprefix(_PREFIX): weights.get_tensor(name)
                for name in weights.keys()  # noqa: SIM118 (no dictionary)
                if name.startswith(_PREFIX)
            }
    if found:
        model.span_boundary.load_state_dict(found)
    return bool(found)
