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
the mask that transformers builds.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

from hf_align.data.packing import make_segments
from hf_align.modeling.cpu_attention import blocked_causal_attention
from hf_align.types import Segments

logger = logging.getLogger(__name__)

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

    ``query`` (B, H, T, D), ``key`` and ``value`` (B, H_kv, T, D) with H a multiple of H_kv; returns
    ``(output (B, T, H, D), None)``. With ``segments`` B must be 1 and ``attention_mask`` is ignored.
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
    if _varlen_applies(query, key, dropout, sliding_window, softcap):
        return _varlen(query, key, value, segments, scaling, sliding_window), None
    return _loop(query, key, value, segments, scaling, dropout, sliding_window, softcap), None


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
    return _loop(query, key, value, segments, dropout=kwargs.get("dropout", 0.0), **options), None


def _refuse_unknown(kwargs: dict[str, Any], *, packed: bool) -> None:
    """Attention sinks and position biases change the result: a model that needs them is not packed."""
    names = ("s_aux", "position_bias") if packed else ("s_aux",)
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
        mask = _causal_mask(query.shape[2], query.shape[2], None, query.device)
    return _softcapped(query, key, value, mask, scaling, dropout, softcap).transpose(1, 2), None


def _loop(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    segments: Segments,
    scaling: float | None,
    dropout: float,
    sliding_window: int | None,
    softcap: float | None,
) -> torch.Tensor:
    grouped = query.shape[1] != key.shape[1]
    outputs = []
    # One split, not a slice per segment: the gradient of a slice is a row of zeros as long as the batch.
    queries, keys, values = (x.split(segments.lengths, dim=2) for x in (query, key, value))
    for i, (q, k, v) in enumerate(zip(queries, keys, values, strict=True)):
        parent = segments.parents[i] if segments.parents else -1
        if parent >= 0:
            k, v = torch.cat([keys[parent], k], dim=2), torch.cat([values[parent], v], dim=2)
        length, seen = q.shape[2], k.shape[2]
        windowed = sliding_window is not None and seen > sliding_window
        if softcap is not None:
            mask = _causal_mask(length, seen, sliding_window, query.device)
            outputs.append(_softcapped(q, k, v, mask, scaling, dropout, softcap))
        elif query.device.type == "cpu" and dropout == 0.0:
            window = sliding_window if windowed else None
            output = blocked_causal_attention(q[0], k[0], v[0], scaling=scaling, sliding_window=window)
            outputs.append(output.unsqueeze(0))
        else:
            # The fused kernel's own causal mask is aligned with the first key, not with the last.
            masked = windowed or length != seen
            outputs.append(
                functional.scaled_dot_product_attention(
                    q,
                    k,
                    v,
                    attn_mask=_causal_mask(length, seen, sliding_window, query.device) if masked else None,
                    dropout_p=dropout,
                    is_causal=not masked,
                    scale=scaling,
                    enable_gqa=grouped,
                )
            )
    return torch.cat(outputs, dim=2).transpose(1, 2)


def _causal_mask(length: int, seen: int, sliding_window: int | None, device: torch.device) -> torch.Tensor:
    """(length, seen) bool, True where the query (row) may see the key (column).

    The queries are the last ``length`` of the ``seen`` positions.
    """
    before = seen - length
    mask = torch.ones(length, seen, dtype=torch.bool, device=device).tril(before)
    return mask if sliding_window is None else mask.triu(before + 1 - sliding_window)


def _softcapped(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    scaling: float | None,
    dropout: float,
    softcap: float,
) -> torch.Tensor:
    """Soft-capped attention, written out because no fused PyTorch kernel offers it on every device."""
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key = key.repeat_interleave(groups, dim=1)
        value = value.repeat_interleave(groups, dim=1)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    scores = softcap * torch.tanh(query @ key.transpose(-1, -2) * (scale / softcap))
    if mask is not None:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    weights = torch.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype)
    return functional.dropout(weights, p=dropout, training=dropout > 0) @ value


def _varlen_applies(
    query: torch.Tensor, key: torch.Tensor, dropout: float, sliding_window: int | None, softcap: float | None
) -> bool:
    half = query.dtype in (torch.bfloat16, torch.float16)
    if not (query.is_cuda and half and dropout == 0.0 and softcap is None) or _varlen_kernel() is None:
        return False
    windowed = sliding_window is not None
    return _varlen_agrees(query.device, query.dtype, query.shape[1], key.shape[1], query.shape[3], windowed)


@functools.cache
def _varlen_agrees(
    device: torch.device, dtype: torch.dtype, heads: int, key_heads: int, head_size: int, windowed: bool
) -> bool:
    """Whether the kernel runs on this device for these shapes and gives what the loop gives.

    Tried once on a few tokens, forward and backward: which shapes and devices it takes depends on the GPU and
    on PyTorch's release.
    """
    generator = torch.Generator().manual_seed(0)
    # A prefix with two branches, and a sequence of its own.
    lengths = (5, 11, 4, 7)
    segments = make_segments(lengths, (-1, 0, 0, -1), device)
    window = 3 if windowed else None
    results = []
    try:
        with torch.enable_grad():
            for attend in (_varlen, functools.partial(_loop, dropout=0.0, softcap=None)):
                q, k, v = (
                    torch.randn(1, n, sum(lengths), head_size, generator=generator.manual_seed(n))
                    .to(device, dtype)
                    .requires_grad_()
                    for n in (heads, key_heads, key_heads)
                )
                output = attend(q, k, v, segments, scaling=None, sliding_window=window)
                results.append((output, *torch.autograd.grad(output.float().square().sum(), (q, k, v))))
    except (RuntimeError, NotImplementedError, TypeError, ValueError) as error:
        logger.warning(
            "the variable-length attention kernel is not used here: %s", str(error).splitlines()[0]
        )
        return False
    agrees = all(
        torch.linalg.vector_norm(a.float() - b.float()) <= 0.03 * torch.linalg.vector_norm(b.float())
        for a, b in zip(*results, strict=True)
    )
    if not agrees:
        logger.warning("the variable-length attention kernel gives other results here and is not used")
    return agrees


def _varlen_kernel() -> Callable[..., Any] | None:
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    return varlen_attn


def _varlen(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    segments: Segments,
    scaling: float | None,
    sliding_window: int | None,
) -> torch.Tensor:
    kernel = _varlen_kernel()
    assert kernel is not None
    # The kernel's window counts the keys to the left of the query, without the query's own position.
    left = -1 if sliding_window is None else sliding_window - 1
    key_ends = segments.cu_seqlens
    if segments.key_index is not None:
        # Every branch gets a copy of its parent's keys; the kernel aligns queries with the last of the keys.
        key, value = (x.index_select(2, segments.key_index) for x in (key, value))
        assert segments.cu_seqlens_k is not None
        key_ends = segments.cu_seqlens_k
    output = kernel(
        *(x[0].transpose(0, 1) for x in (query, key, value)),
        segments.cu_seqlens,
        key_ends,
        segments.max_length,
        max(segments.key_lengths),
        scale=scaling,
        window_size=(left, 0),
        enable_gqa=query.shape[1] != key.shape[1],
    )
    return output.unsqueeze(0)
