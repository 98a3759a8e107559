"""Attention inside segments by PyTorch's variable-length kernel, which takes all segments at once.

The kernel runs on CUDA in half precision, without dropout and soft-capping. Before it is used it is tried on
a few tokens against the loop of ``loop``, which computes everything that this leaves out.
"""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

from hf_align.data.packing import make_segments
from hf_align.modeling.attention.loop import attend_by_segments
from hf_align.types import Segments

logger = logging.getLogger(__name__)


def varlen_applies(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    dropout: float,
    sliding_window: int | None,
    softcap: float | None,
) -> bool:
    """Whether the kernel is there, takes these tensors and options, and has given what the loop gives."""
    half = query.dtype in (torch.bfloat16, torch.float16)
    if query.shape[3] != value.shape[3]:  # latent attention (DeepSeek)
        return False
    if not (query.is_cuda and half and dropout == 0.0 and softcap is None) or _kernel() is None:
        return False
    windowed = sliding_window is not None
    return _known(query.device, query.dtype, query.shape[1], key.shape[1], query.shape[3], windowed)


@torch.compiler.assume_constant_result
def _known(*shape: Any) -> bool:
    """What :func:`_agrees` says, for torch.compile to take as it is: it would trace what the cache hides."""
    return _agrees(*shape)


@functools.cache
def _agrees(
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
            for attend in (
                varlen_attention,
                functools.partial(attend_by_segments, dropout=0.0, softcap=None),
            ):
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


def _kernel() -> Callable[..., Any] | None:
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    return varlen_attn


@torch.compiler.assume_constant_result
def _groups_are_named() -> bool:
    """Whether the kernel has to be told that heads are grouped; PyTorch 2.11 has no word for it."""
    kernel = _kernel()
    return kernel is not None and "enable_gqa" in inspect.signature(kernel).parameters


def varlen_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    segments: Segments,
    scaling: float | None,
    sliding_window: int | None,
) -> torch.Tensor:
    """``query`` (1, H, T, D), ``key`` and ``value`` (1, H_kv, T, D), H a multiple of H_kv: (1, T, H, D).

    To be called where :func:`varlen_applies` says so.
    """
    kernel = _kernel()
    assert kernel is not None
    # The kernel's window counts the keys to the left of the query, without the query's own position.
    left = -1 if sliding_window is None else sliding_window - 1
    key_ends = segments.cu_seqlens
    # The kernel leaves what lies behind the last segment as it finds it, here and in the gradients.
    real = query.shape[2] - segments.filler
    query, key, value = (x[:, :, :real] for x in (query, key, value))
    if segments.key_index is not None:
        # Every branch gets a copy of its parent's keys; the kernel aligns queries with the last of the keys.
        key, value = (x.index_select(2, segments.key_index) for x in (key, value))
        assert segments.cu_seqlens_k is not None
        key_ends = segments.cu_seqlens_k
    grouped = query.shape[1] != key.shape[1]
    output = kernel(
        *(x[0].transpose(0, 1) for x in (query, key, value)),
        segments.cu_seqlens,
        key_ends,
        segments.max_length,
        max(segments.key_lengths),
        scale=scaling,
        window_size=(left, 0),
        **({"enable_gqa": True} if grouped and _groups_are_named() else {}),
    )
    return functional.pad(output, (0, 0, 0, 0, 0, segments.filler)).unsqueeze(0)
