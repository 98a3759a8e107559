"""PyTorch's variable-length attention as its documentation has it: what it takes, and what it computes.

The real kernel runs on GPUs alone. What this cannot show: the kernel's own limits and rounding.
"""

from __future__ import annotations

import torch


class Kernel:
    """``torch.nn.attention.varlen.varlen_attn`` of PyTorch 2.12 and 2.13; counts its ``calls``."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        cu_seq_q: torch.Tensor,
        cu_seq_k: torch.Tensor,
        max_q: int,
        max_k: int,
        *,
        scale: float | None = None,
        window_size: tuple[int, int] = (-1, -1),
        enable_gqa: bool = False,
    ) -> torch.Tensor:
        if not enable_gqa and query.shape[1] != key.shape[1]:
            raise ValueError("grouped heads have to be asked for")
        return self.attend(query, key, value, (cu_seq_q, cu_seq_k), (max_q, max_k), scale, window_size)

    def attend(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        ends: tuple[torch.Tensor, torch.Tensor],
        longest: tuple[int, int],
        scale: float | None,
        window_size: tuple[int, int],
    ) -> torch.Tensor:
        """(T, H, D) in and out, in 16 bits; the last query of a segment is aligned with its last key."""
        self.calls += 1
        for tensor in (query, key, value):
            assert tensor.ndim == 3 and tensor.is_cuda and tensor.dtype == torch.bfloat16
            assert tensor.stride(-1) == 1
        for each in ends:
            assert each.dtype == torch.int32 and each.is_cuda and each.is_contiguous()
        lengths, key_lengths = (each.diff().tolist() for each in ends)
        assert longest == (max(lengths), max(key_lengths))
        assert type(window_size) is tuple and window_size[1] == 0, "causal"
        outputs = []
        pieces = (query.split(lengths), key.split(key_lengths), value.split(key_lengths))
        for q, k, v in zip(*pieces, strict=True):
            rows = torch.arange(len(k) - len(q), len(k), device=q.device)[:, None]
            distance = rows - torch.arange(len(k), device=q.device)[None, :]
            allowed = (distance >= 0) & ((distance <= window_size[0]) | (window_size[0] < 0))
            k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for x in (k, v))
            scores = torch.einsum("qhd,khd->hqk", q.float(), k.float())
            scores = scores * (q.shape[-1] ** -0.5 if scale is None else scale)
            weights = scores.masked_fill(~allowed, float("-inf")).softmax(-1)
            outputs.append(torch.einsum("hqk,khd->qhd", weights, v.float()).to(q.dtype))
        return torch.cat(outputs)


class OlderKernel(Kernel):
    """That of PyTorch 2.11, which has no word for grouped heads."""

    def __call__(  # type: ignore[override]
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        cu_seq_q: torch.Tensor,
        cu_seq_k: torch.Tensor,
        max_q: int,
        max_k: int,
        *,
        scale: float | None = None,
        window_size: tuple[int, int] = (-1, -1),
    ) -> torch.Tensor:
        return self.attend(query, key, value, (cu_seq_q, cu_seq_k), (max_q, max_k), scale, window_size)
