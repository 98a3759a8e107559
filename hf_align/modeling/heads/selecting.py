"""Log-probabilities of target tokens for models whose head ``target`` cannot call by itself.

Encoder-decoder models, whose trunk is no module of its own in T5, and encoders with a second head that
classifies pairs of segments. ``install_selecting_head`` teaches ``forward`` the keyword ``shift_labels``: the
model's own ``forward`` runs, and just before its output embeddings the states without a target are left out.
So logits exist for targets only, and scaling and biases of the head are the model's own. It happens inside
``forward`` for the same reason as in ``target``.
"""

from __future__ import annotations

import functools
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from hf_align.errors import UserError
from hf_align.modeling.few_shapes import compiles, few_length, pad_rows_to
from hf_align.modeling.heads.logprobs import token_logps
from hf_align.types import IGNORE_INDEX

_TOKEN_LOGITS = ("logits", "prediction_logits")
_PAIR_LOGITS = ("seq_relationship_logits", "sop_logits")


@dataclass
class SelectedOutput(ModelOutput):
    """For each of N targets, in row-major order of ``shift_labels``, and for each of B rows.

    ``logps`` (N,) float32 in nats and ``correct`` (N,) bool as in ``TargetOutput``. ``pair_logits`` (B, 2),
    where the model has a head for pairs: that the second segment belongs there, and that it does not.
    """

    logps: torch.Tensor | None = None
    correct: torch.Tensor | None = None
    pair_logits: torch.Tensor | None = None


def install_selecting_head(model: PreTrainedModel) -> None:
    """Teach ``model.forward`` the keyword ``shift_labels`` (B, T) int64: what each position predicts, or
    -100.

    For an encoder-decoder model T are the decoder's positions, and the decoder reads the labels shifted by
    one. Raises UserError where the model has no output embeddings or cannot shift its labels.
    """
    if model.get_output_embeddings() is None:
        raise UserError(f"{type(model).__name__} has no language-model head")
    shift = _label_shift(model)
    if model.config.is_encoder_decoder and shift is None:
        raise UserError(f"{type(model).__name__} does not say how its decoder reads labels")

    @functools.wraps(type(model).forward)
    def forward(
        self: PreTrainedModel, *args: Any, shift_labels: torch.Tensor | None = None, **kwargs: Any
    ) -> Any:
        original = functools.partial(type(self).forward, self)
        if shift_labels is None:
            return original(*args, **kwargs)
        counted = shift_labels != IGNORE_INDEX
        if self.config.is_encoder_decoder:
            kwargs |= {
                "decoder_input_ids": _label_shift(self)(shift_labels),  # type: ignore[misc]
                "use_cache": False,
            }
        targets = shift_labels[counted]
        select = self.get_output_embeddings().register_forward_pre_hook(
            lambda module, inputs: (_in_few_rows(inputs[0][counted]),)
        )
        try:
            output = original(*args, **kwargs)
        finally:
            select.remove()
        logps, correct = token_logps(_first(output, _TOKEN_LOGITS)[: len(targets)], targets)
        return SelectedOutput(logps, correct, _first(output, _PAIR_LOGITS))

    # Bound as a method, so that a deep copy of the model gets a forward of its own.
    model.forward = types.MethodType(forward, model)


def _label_shift(model: PreTrainedModel) -> Callable[[torch.Tensor], torch.Tensor] | None:
    """What gives the decoder's inputs for labels, by the model's own code; None where it has none.

    Some families (M2M100, Blenderbot) have a function beside the model instead of a method.
    """
    method: Any = getattr(model, "prepare_decoder_input_ids_from_labels", None)
    if method is not None:
        return lambda labels: method(labels=labels)
    beside: Any = getattr(sys.modules[type(model).__module__], "shift_tokens_right", None)
    config: Any = model.config
    if beside is None or config.pad_token_id is None or config.decoder_start_token_id is None:
        return None
    return lambda labels: beside(labels, config.pad_token_id, config.decoder_start_token_id)


def _in_few_rows(states: torch.Tensor) -> torch.Tensor:
    """``states`` (N, d), with rows of zeros behind them where products are compiled for their shape."""
    return pad_rows_to(states, few_length(len(states))) if compiles(states) else states


def classifies_pairs(model: PreTrainedModel) -> bool:
    """Whether the model has a head for pairs of segments beside its language-model head."""
    return hasattr(model, "sop_classifier") or hasattr(getattr(model, "cls", None), "seq_relationship")


def _first(output: Any, names: tuple[str, ...]) -> Any:
    return next((output[name] for name in names if output.get(name) is not None), None)
