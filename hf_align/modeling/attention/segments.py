"""Attention over segments: sequences lie side by side in one row and never see each other.

Registered with transformers' ``AttentionInterface`` under the name ``hf_align_segments``, so that every
model family which calls a registered function can be packed. A packed forward pass carries

* ``segments`` (:class:`hf_align.types.Segments`) as a keyword argument through the whole model, and
* a four-dimensional ``attention_mask``, which transformers hands on as it is. Without it transformers
  would infer packing from jumps in ``position_ids`` and build a dense T x T mask, and with a mask of ones
  it would let the sequences see each other.

A segment may have a parent, the prefix that it continues: its queries then see the parent's keys as well as
their own. So several answers to one prompt are branches of a tree, and the prompt is computed once.

Without ``segments`` (padded batches, generation) the function is plain scaled dot-product attention with
the mask that transformers builds. What this leaves out: the attention inside the segments itself, which
``loop`` and ``varlen`` compute.
"""

from __future__ import annotations

from typing import Any

import torch

from hf_align.modeling.attention.loop import attend_by_segments, causal_mask, softcapped
from hf_align.modeling.attention.varlen import varlen_applies, varlen_attention
from hf_align.types import Segments

SEGMENT_ATTENTION = "hf_align_segments"
SEGMENT_ATTENTION_LOOP = "hf_align_segments_loop"


def register_segment_attention() -> None:
    """Make both implementations known to transformers. Calling it again changes nothing.

    ``hf_align_segments`` uses PyTorch's variable-length kernel where it applies (CUDA, half precision, no
    soft-capping); ``hf_align_segments_loop`` never does.
    """
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

    AttentionInterface.register(SEGMENT_ATTENTION, segment_attention)
    AttentionInterface.register(SEGMENT_ATTENTION_LOOP, segment_attention_loop)
    # Without a mask function of the same name transformers builds no mask at all, and the padding of a
    # padded batch would be attended to.
    AttentionMaskInterface.register(SEGMENT_ATTENTION, sdpa_mask)
    AttentionMaskInterface.register(SEGMENT_ATTENTION_LOOP, sdpa_mask)


def segment_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    segments: Segments | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention inside each segment, and of a segment to all of its parent.

    ``query`` (B, H, T, D), ``key`` (B, H_kv, T, D) and ``value`` (B, H_kv, T, E) with H a multiple of H_kv;
    returns ``(output (B, T, H, E), None)``. With ``segments`` B must be 1 and ``attention_mask`` is ignored.
    ``sliding_window`` counts the query's own position, as in transformers; ``softcap`` c replaces each
    score s by c * tanh(s / c) (Gemma 2, arXiv 2408.00118).
    """
    _refuse_unknown(kwargs, packed=segments is not None)
    if segments is None:
        return _unpacked(
            module,
            query,
            key,
            value,
            attention_mask,
            scaling=scaling,
            dropout=dropout,
            softcap=softcap,
            sliding_window=sliding_window,
            **kwargs,
        )
    if query.is_cuda and torch.is_autocast_enabled("cuda"):
        # Rotated queries and keys of a model in float32 are float32 under autocast, its values are not.
        dtype = torch.get_autocast_dtype("cuda")
        query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
    if varlen_applies(query, key, value, dropout, sliding_window, softcap):
        return varlen_attention(query, key, value, segments, scaling, sliding_window), None
    return attend_by_segments(query, key, value, segments, scaling, dropout, sliding_window, softcap), None


def segment_attention_loop(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    segments: Segments | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """As :func:`segment_attention`, one segment after the other on every device."""
    if segments is None:
        return segment_attention(module, query, key, value, attention_mask, **kwargs)
    _refuse_unknown(kwargs, packed=True)
    options = {name: kwargs.get(name) for name in ("scaling", "sliding_window", "softcap")}
    return attend_by_segments(
        query, key, value, segments, dropout=kwargs.get("dropout", 0.0), **options
    ), None


def _refuse_unknown(kwargs: dict[str, Any], *, packed: bool) -> None:
    """Attention sinks, position biases and a choice of keys change the result: a model that needs them is not
    packed. Where transformers makes the mask, it holds that choice."""
    names = ("s_aux", "sinks", *(("position_bias", "indices", "block_indices") if packed else ()))
    for name in names:
        if kwargs.get(name) is not None:
            raise TypeError(f"segment attention does not support {name}")


def _unpacked(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float | None,
    dropout: float,
    softcap: float | None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    if softcap is None:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        output, _ = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, **kwargs
        )
        return output, None
    mask = attention_mask
    if mask is None and query.shape[2] > 1:
        mask = causal_mask(query.shape[2], query.shape[2], None, query.device)
    return softcapped(query, key, value, mask, scaling, dropout, softcap).transpose(1, 2), None
