"""Attention inside segments, one segment after the other: on every device, with every option.

A segment's queries meet its own keys, and its parent's where it has one. What this leaves out: the faster
kernel that takes all segments at once (``varlen``), and the choice between the two (``segments``).
"""

from __future__ import annotations

import torch
from torch.nn import functional

from hf_align.modeling.attention.cpu import blocked_causal_attention
from hf_align.modeling.few_shapes import compiles, few_length
from hf_align.types import Segments

PER_OCTAVE = 8
"""Lengths of a segment between two powers of two: attention is a small part of a step, and every length of a
segment compiles six products."""


def attend_by_segments(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    segments: Segments,
    scaling: float | None,
    dropout: float,
    sliding_window: int | None,
    softcap: float | None,
) -> torch.Tensor:
    """``query`` (1, H, T, D), ``key`` (1, H_kv, T, D) and ``value`` (1, H_kv, T, E), H a multiple of H_kv:
    (1, T, H, E).

    The options are those of :func:`hf_align.modeling.attention.segments.segment_attention`.
    """
    grouped = query.shape[1] != key.shape[1]
    outputs = []
    pieces = (*segments.lengths, segments.filler)
    # One split, not a slice per segment: the gradient of a slice is a row of zeros as long as the batch.
    queries, keys, values = (x.split(pieces, dim=2)[: len(segments.lengths)] for x in (query, key, value))
    for i, (q, k, v) in enumerate(zip(queries, keys, values, strict=True)):
        parent = segments.parents[i] if segments.parents else -1
        if parent >= 0:
            k, v = torch.cat([keys[parent], k], dim=2), torch.cat([values[parent], v], dim=2)
        own = q.shape[2]
        # Zeros behind the last token, which no token before them sees.
        ahead = few_length(own, PER_OCTAVE) - own if compiles(q) else 0
        if ahead:
            q, k, v = (functional.pad(x, (0, 0, 0, ahead)) for x in (q, k, v))
        length, seen = q.shape[2], k.shape[2]
        windowed = sliding_window is not None and seen > sliding_window
        if softcap is not None:
            mask = causal_mask(length, seen, sliding_window, query.device)
            output = softcapped(q, k, v, mask, scaling, dropout, softcap)
        elif query.device.type == "cpu" and dropout == 0.0:
            window = sliding_window if windowed else None
            output = blocked_causal_attention(
                q[0], k[0], v[0], scaling=scaling, sliding_window=window
            ).unsqueeze(0)
        else:
            # The fused kernel's own causal mask is aligned with the first key, not with the last.
            masked = windowed or length != seen
            output = functional.scaled_dot_product_attention(
                q,
                k,
                v,
                attn_mask=causal_mask(length, seen, sliding_window, query.device) if masked else None,
                dropout_p=dropout,
                is_causal=not masked,
                scale=scaling,
                enable_gqa=grouped,
            )
        outputs.append(output[:, :, :own])
    if segments.filler:
        outputs.append(outputs[0].new_zeros(*query.shape[:2], segments.filler, value.shape[3]))
    # Some models look at the heads of a position as one (``view``), which asks for this order in memory.
    return torch.cat(outputs, dim=2).transpose(1, 2).contiguous()


def causal_mask(length: int, seen: int, sliding_window: int | None, device: torch.device) -> torch.Tensor:
    """(length, seen) bool, True where the query (row) may see the key (column).

    The queries are the last ``length`` of the ``seen`` positions.
    """
    before = seen - length
    mask = torch.ones(length, seen, dtype=torch.bool, device=device).tril(before)
    return mask if sliding_window is None else mask.triu(before + 1 - sliding_window)


def softcapped(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    scaling: float | None,
    dropout: float,
    softcap: float,
) -> torch.Tensor:
    """Soft-capped attention, written out because no fused PyTorch kernel offers it on every device.

    ``query`` (B, H, L, D), ``key`` and ``value`` (B, H_kv, M, D), H a multiple of H_kv; ``mask`` bool,
    broadcast to (B, H, L, M), True where the key is seen. Returns (B, H, L, D).
    """
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
