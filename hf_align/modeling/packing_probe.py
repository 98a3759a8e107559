"""Find out by trying whether a model can be packed, and switch it to segment attention if so.

A list of class names would go stale, and a wrong entry would train on sequences that see each other. The
probe runs a few tokens instead: what stands in one segment must not change another (exactly), and a packed
sequence must come out as it does alone under the model's own attention (to rounding).
"""

from __future__ import annotations

import logging

import numpy as np
import torch
from transformers import PreTrainedModel

from hf_align.data.packing import pack_rows, to_device
from hf_align.modeling.attention import (
    SEGMENT_ATTENTION,
    SEGMENT_ATTENTION_LOOP,
    register_segment_attention,
)
from hf_align.modeling.inputs import model_inputs
from hf_align.modeling.quantization import independent_rows
from hf_align.types import TokenizedRow

logger = logging.getLogger(__name__)

FIRST_LENGTH, SECOND_LENGTH = 7, 5


def enable_segment_attention(model: PreTrainedModel) -> bool:
    """Switch ``model`` to segment attention if it passes the probe; returns whether it did.

    A model that fails keeps the attention it was loaded with and is to be trained on padded batches; the
    log says why. The variable-length kernel is tried first where it applies, then one segment after the
    other.
    """
    register_segment_attention()
    before = model.config._attn_implementation
    if "chunked_attention" in (getattr(model.config.get_text_config(), "layer_types", None) or []):
        logger.warning("%s: chunked attention is not packed; batches are padded", type(model).__name__)
        return False
    reason = "it does not call a registered attention function"
    if model._can_set_attn_implementation():
        # "eager" is each model's own reference: some releases of transformers drop soft-capping in others.
        model.set_attn_implementation("eager")
        alone = _second_alone(model)
        for implementation in (SEGMENT_ATTENTION, SEGMENT_ATTENTION_LOOP):
            model.set_attn_implementation(implementation)
            reason = _why_not(model, alone)
            if not reason:
                return True
        model.set_attn_implementation(before)
    logger.warning("%s is not packed (%s); batches are padded", type(model).__name__, reason)
    return False


def _why_not(model: PreTrainedModel, alone: torch.Tensor) -> str:
    """Why the model cannot be packed, or an empty string where it can."""
    try:
        packed = _second_packed(model, shift=0)
        other = _second_packed(model, shift=1)
    except (TypeError, ValueError, RuntimeError, IndexError, AttributeError, ImportError) as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}"
    if not torch.equal(packed, other):
        return "sequences of one row influence each other"
    exact = all(parameter.dtype == torch.float32 for parameter in model.parameters())
    distance = torch.linalg.vector_norm(packed - alone) / torch.linalg.vector_norm(alone)
    if not distance <= (1e-4 if exact else 5e-2):
        return f"a packed sequence differs from the same sequence alone by {distance:.1e}"
    return ""


def _rows(model: PreTrainedModel, shift: int) -> list[TokenizedRow]:
    vocabulary = model.config.get_text_config().vocab_size
    first = (np.arange(FIRST_LENGTH) * 3 + 5 + shift) % vocabulary
    second = (np.arange(SECOND_LENGTH) * 7 + 11) % vocabulary
    return [TokenizedRow(ids.astype(np.int32), np.ones(len(ids), dtype=bool)) for ids in (first, second)]


def _run(model: PreTrainedModel, rows: list[TokenizedRow], *, packed: bool) -> torch.Tensor:
    """Final states (T, d) in float32, in evaluation mode."""
    batch = to_device(pack_rows(rows), model.device)
    inputs = model_inputs(batch) if packed else {"input_ids": batch.input_ids}
    inputs.pop("shift_labels", None)
    training = model.training
    model.eval()
    try:
        with torch.no_grad(), independent_rows(model):
            return model.base_model(**inputs, use_cache=False).last_hidden_state[0].float()
    finally:
        model.train(training)


def _second_packed(model: PreTrainedModel, shift: int) -> torch.Tensor:
    return _run(model, _rows(model, shift), packed=True)[FIRST_LENGTH:]


def _second_alone(model: PreTrainedModel) -> torch.Tensor:
    return _run(model, _rows(model, 0)[1:], packed=False)
