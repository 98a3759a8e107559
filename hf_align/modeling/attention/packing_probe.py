"""Find out by trying whether a model can be packed, and switch it to segment attention if so.

A list of class names would go stale, and a wrong entry would train on sequences that see each other. The
probe runs a few tokens instead: what stands in one segment must not change another (exactly), and a packed
sequence must come out as it does alone under the model's own attention (to rounding).
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from hf_align.data.comparisons.batches import collate_comparisons
from hf_align.data.packing import pack_rows, to_device
from hf_align.modeling.attention.expert_rows import experts_token_by_token
from hf_align.modeling.attention.segments import (
    SEGMENT_ATTENTION,
    SEGMENT_ATTENTION_LOOP,
    register_segment_attention,
    segment_attention_loop,
)
from hf_align.modeling.inputs import model_inputs
from hf_align.modeling.quantization import independent_rows
from hf_align.modeling.virtual_tokens import count_virtual_tokens
from hf_align.types import ComparisonRow, TokenizedRow

logger = logging.getLogger(__name__)

FIRST_LENGTH, SECOND_LENGTH = 7, 5
_WATCHED = "hf_align_segments_watched"
SHARED = 2
"""Tokens of the second sequence that are a prefix of two branches in the probe of trees."""


def enable_segment_attention(model: PreTrainedModel) -> bool:
    """Switch ``model`` to segment attention if it passes the probe; returns whether it did.

    A model that fails keeps the attention it was loaded with and is to be trained on padded batches; the
    log says why. The variable-length kernel is tried first where it applies, then one segment after the
    other.
    """
    register_segment_attention()
    if count_virtual_tokens(model):
        logger.info("%s has virtual tokens before each row; batches are padded", type(model).__name__)
        return False
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


def shares_prefixes(model: PreTrainedModel) -> bool:
    """Whether branches of one prefix come out of the packed ``model`` as they do alone.

    To be asked after :func:`enable_segment_attention` has returned True; the log says why where they do not.
    """
    attention = model.config._attn_implementation
    tree = [_branched(model, shift) for shift in (0, 1)]
    model.set_attn_implementation("eager")
    alone = _second_alone(model)
    model.set_attn_implementation(attention)
    reason = ""
    if not torch.equal(*tree):
        reason = "branches of one prefix influence each other"
    elif not _close(model, tree[0], alone[SHARED:]):
        reason = f"a branch differs from the same sequence alone by {_distance(tree[0], alone[SHARED:]):.1e}"
    if reason:
        logger.warning("%s: prompts are not shared (%s)", type(model).__name__, reason)
    return not reason


def _why_not(model: PreTrainedModel, alone: torch.Tensor) -> str:
    """Why the model cannot be packed, or an empty string where it can."""
    try:
        packed = _second_packed(model, shift=0)
        other = _second_packed(model, shift=1)
    except (TypeError, ValueError, RuntimeError, IndexError, AttributeError, ImportError) as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}"
    if not torch.equal(packed, other):
        return "sequences of one row influence each other"
    if not _close(model, packed, alone):
        return f"a packed sequence differs from the same sequence alone by {_distance(packed, alone):.1e}"
    windows = _count_windows(model)
    if windows and _count_windows_told(model) < windows:
        return "its sliding window is in the mask alone, which packed rows do without"
    return ""


def _count_windows(model: PreTrainedModel) -> int:
    """Layers with a sliding window by the configuration; 1 where it does not say which layers have it."""
    config = model.config.get_text_config()
    kinds = getattr(config, "layer_types", None)
    if kinds is not None:
        return list(kinds).count("sliding_attention")
    return int(bool(getattr(config, "sliding_window", None)) and getattr(config, "use_sliding_window", True))


def _count_windows_told(model: PreTrainedModel) -> int:
    """Layers that tell the attention function of a window. The few tokens of the probe fit into any."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

    windows: list[int | None] = []

    def watched(*args: Any, sliding_window: int | None = None, **kwargs: Any) -> Any:
        windows.append(sliding_window)
        return segment_attention_loop(*args, sliding_window=sliding_window, **kwargs)

    attention = model.config._attn_implementation
    AttentionInterface.register(_WATCHED, watched)
    AttentionMaskInterface.register(_WATCHED, sdpa_mask)
    model.set_attn_implementation(_WATCHED)
    try:
        _second_packed(model, shift=0)
    finally:
        model.set_attn_implementation(attention)
    return sum(window is not None for window in windows)


def _close(model: PreTrainedModel, states: torch.Tensor, expected: torch.Tensor) -> bool:
    exact = all(parameter.dtype == torch.float32 for parameter in model.parameters())
    return _distance(states, expected) <= (1e-4 if exact else 5e-2)


def _distance(states: torch.Tensor, expected: torch.Tensor) -> float:
    return float(torch.linalg.vector_norm(states - expected) / torch.linalg.vector_norm(expected))


def _rows(model: PreTrainedModel, shift: int) -> list[TokenizedRow]:
    vocabulary = model.config.get_text_config().vocab_size
    first = (np.arange(FIRST_LENGTH) * 3 + 5 + shift) % vocabulary
    second = (np.arange(SECOND_LENGTH) * 7 + 11) % vocabulary
    return [TokenizedRow(ids.astype(np.int32), np.ones(len(ids), dtype=bool)) for ids in (first, second)]


def _branched(model: PreTrainedModel, shift: int) -> torch.Tensor:
    """The states of the second sequence's end as a branch, beside another branch that ``shift`` changes."""
    other, second = _rows(model, shift)
    prefix, end = second.input_ids[:SHARED], second.input_ids[SHARED:]
    branches = tuple(TokenizedRow(ids, np.zeros(len(ids), dtype=bool)) for ids in (other.input_ids, end))
    tree = collate_comparisons([ComparisonRow(prefix, branches, np.zeros(2))], packed=True)
    states = _states(model, model_inputs(to_device(tree.inputs, model.device)))
    return states[: tree.inputs.tokens][-len(end) :]


def _run(model: PreTrainedModel, rows: list[TokenizedRow], *, packed: bool) -> torch.Tensor:
    """Final states (T, d) of the rows side by side, or of the only one as the model takes it by itself."""
    batch = to_device(pack_rows(rows), model.device)
    inputs = model_inputs(batch) if packed else {"input_ids": batch.input_ids}
    return _states(model, inputs)[: batch.tokens]


def _states(model: PreTrainedModel, inputs: dict[str, Any]) -> torch.Tensor:
    """Final states (T, d) in float32, in evaluation mode."""
    inputs.pop("shift_labels", None)
    training = model.training
    model.eval()
    try:
        with torch.no_grad(), independent_rows(model), experts_token_by_token(model):
            return model.base_model(**inputs, use_cache=False).last_hidden_state[0].float()
    finally:
        model.train(training)


def _second_packed(model: PreTrainedModel, shift: int) -> torch.Tensor:
    return _run(model, _rows(model, shift), packed=True)[FIRST_LENGTH:]


def _second_alone(model: PreTrainedModel) -> torch.Tensor:
    return _run(model, _rows(model, 0)[1:], packed=False)
