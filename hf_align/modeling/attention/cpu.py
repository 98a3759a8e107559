"""Causal attention of one sequence on a CPU, by blocks of queries and matrix products only.

PyTorch's fused CPU kernel multiplies small tiles; here each block of queries meets all the keys it may see in
one matrix product, and the query heads that share a key head are rows of the same product. The backward pass
recomputes the weights from the saved normalisers (arXiv 2205.14135, section 3.1), so that memory grows with
the length and not with its square. Between the products, passes over the scores are what costs: there are
as few as possible, the scale is a factor of a product, and exponentials are powers of two, which PyTorch
computes several times as fast on a CPU. What this leaves out: dropout and soft-capping.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch.autograd.function import once_differentiable
from torch.nn import functional

from hf_align.modeling.few_shapes import compiles, few_length

BLOCK = 256
"""Queries per block: large enough for the matrix product, small enough to skip most masked scores."""


def blocked_causal_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    *,
    scaling: float | None = None,
    sliding_window: int | None = None,
) -> torch.Tensor:
    """``query`` (H, L, D), ``key`` (G, M, D) and ``value`` (G, M, E) H a multiple of G: (H, L, E).

    M >= L: the queries are the last L of the M positions, so the first M - L keys are a prefix that all of
    them see. Query head h attends with key head h // (H / G). Scores and weights are computed in float32
    from products in the inputs' type. ``sliding_window`` counts the query's own position.
    """
    if torch.is_autocast_enabled("cpu"):
        dtype = torch.get_autocast_dtype("cpu")
        query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    prefix = key.shape[1] - query.shape[1]
    few = compiles(query)
    if few and prefix and (ahead := few_length(key.shape[1]) - key.shape[1]):
        # Prefixes have all lengths; zeros behind the last key, which no query sees, leave few of them.
        key, value = (functional.pad(x, (0, 0, 0, ahead)) for x in (key, value))
    result: torch.Tensor = _BlockedCausal.apply(query, key, value, prefix, scale, sliding_window)
    return result


class _BlockedCausal(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        prefix: int,
        scale: float,
        window: int | None,
    ) -> torch.Tensor:
        groups, keys, _ = key.shape
        length = query.shape[1]
        output = torch.empty((*query.shape[:2], value.shape[2]), dtype=query.dtype, device=query.device)
        normalisers = torch.empty(query.shape[:2], dtype=torch.float32, device=query.device)
        for rows, columns, first in _blocks(length, keys, prefix, window):
            queries = _group(query, rows, groups)
            scores = _scores(queries, key[:, columns], scale, rows, columns, first, window)
            largest = scores.amax(dim=-1, keepdim=True)
            weights = scores.sub_(largest).exp2_()
            total = weights.sum(dim=-1, keepdim=True)
            block = torch.bmm(weights.to(query.dtype), value[:, columns]).div_(total)
            output[:, rows] = _ungroup(block, rows)
            normalisers[:, rows] = _ungroup(largest.add_(total.log2_()), rows).squeeze(-1)
        ctx.save_for_backward(query, key, value, normalisers)
        ctx.prefix, ctx.scale, ctx.window = prefix, scale, window
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        query, key, value, normalisers = ctx.saved_tensors
        groups, keys, _ = key.shape
        length = query.shape[1]
        dtype = query.dtype
        grad_query = torch.empty(query.shape, dtype=dtype, device=query.device)
        grad_key = torch.zeros(key.shape, dtype=torch.float32, device=query.device)
        grad_value = torch.zeros(value.shape, dtype=torch.float32, device=query.device)
        for rows, columns, first in _blocks(length, keys, ctx.prefix, ctx.window):
            queries, grads = _group(query, rows, groups), _group(grad, rows, groups).to(dtype)
            scores = _scores(queries, key[:, columns], ctx.scale, rows, columns, first, ctx.window)
            weights = scores.sub_(_group(normalisers.unsqueeze(-1), rows, groups)).exp2_().to(dtype)
            grad_value[:, columns] += torch.bmm(weights.transpose(1, 2), grads)
            grad_weights = torch.bmm(grads, value[:, columns].transpose(1, 2))
            # P_ij (dP_ij - sum_k P_ik dP_ik) in one pass, summed in float32.
            grad_scores = torch._softmax_backward_data(grad_weights, weights, -1, dtype)
            grad_query[:, rows] = _ungroup(_scaled_bmm(grad_scores, key[:, columns], ctx.scale), rows)
            grad_key[:, columns] += _scaled_bmm(grad_scores.transpose(1, 2), queries, ctx.scale)
        return grad_query, grad_key.to(dtype), grad_value.to(dtype), None, None, None


def _blocks(length: int, keys: int, prefix: int, window: int | None) -> Iterator[tuple[slice, slice, int]]:
    """Slices of queries and of the keys that any of them may see, and the first query's position.

    ``keys``: how many there are. A slice of keys is longer than it has to be where that makes its length one
    of few; what a query may not see is masked.
    """
    for start in range(0, length, BLOCK):
        end = min(length, start + BLOCK)
        first = prefix + start
        newest = min(keys, few_length(prefix + end)) if prefix else end
        oldest = 0 if window is None else max(0, first - window + 1)
        if oldest:
            oldest = max(0, newest - few_length(newest - oldest))
        yield slice(start, end), slice(oldest, newest), first


def _group(tensor: torch.Tensor, rows: slice, groups: int) -> torch.Tensor:
    """(H, L, X) to (G, (H / G) * rows, X): the query heads of one key head below each other."""
    return tensor[:, rows].reshape(groups, -1, tensor.shape[-1])


def _ungroup(tensor: torch.Tensor, rows: slice) -> torch.Tensor:
    """(G, (H / G) * rows, X) back to (H, rows, X)."""
    return tensor.reshape(-1, rows.stop - rows.start, tensor.shape[-1])


def _scores(
    queries: torch.Tensor,
    keys: torch.Tensor,
    scale: float,
    rows: slice,
    columns: slice,
    first: int,
    window: int | None,
) -> torch.Tensor:
    """Float32 scores in units of log 2, -inf where a query may not see a key.

    ``first``: the first query's position.
    """
    scores = _scaled_bmm(queries, keys.transpose(1, 2), scale / math.log(2))
    count = rows.stop - rows.start
    heads = scores.view(-1, count, columns.stop - columns.start)
    # Keys before the block are all in the past; only the square on the diagonal is cut. Adding is faster
    # than filling where a mask says so.
    corner = heads[:, :, first - columns.start :]
    corner.add_(torch.full(corner.shape[1:], float("-inf"), dtype=scores.dtype, device=scores.device).triu(1))
    if window is not None:
        query_index = torch.arange(first, first + count, device=scores.device)[:, None]
        key_index = torch.arange(columns.start, columns.stop, device=scores.device)[None, :]
        heads.masked_fill_(query_index - key_index >= window, float("-inf"))
    return scores.float()


def _scaled_bmm(left: torch.Tensor, right: torch.Tensor, scale: float) -> torch.Tensor:
    """``scale`` times the batched product, scaled before it is rounded to the inputs' type."""
    result = left.new_empty(left.shape[0], left.shape[1], right.shape[2])
    return torch.baddbmm(result, left, right, beta=0, alpha=scale)
