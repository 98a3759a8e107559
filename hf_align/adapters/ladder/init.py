"""The side network's first weights, cut out of the backbone's by the size of its weights.

Sung et al. 2022 (arXiv 2206.06522, section 3.3) prune the backbone to the width of the side network. Here
whole attention heads, units of the feed-forward layers, and one set of coordinates of the residual stream for
all blocks are kept, those with the largest sums of absolute weights; the paper ranks by Fisher information,
which needs data and backward passes through the backbone. The downsampling layers begin as the choice of the
kept coordinates, so that the cut-out blocks read and write the coordinates that they were cut for.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from hf_align.adapters.blocks import Block, features
from hf_align.adapters.ladder.roles import BlockLinear, find_places, unknown_weight
from hf_align.adapters.ladder.shape import Shape, backbone_shape
from hf_align.adapters.ladder.side import SideStack, block_list
from hf_align.errors import UserError

Index = torch.Tensor
"""(n,) int64: numbers of coordinates, heads, units, rows or columns."""


@dataclass(frozen=True)
class Kept:
    """What is kept of a block. ``heads``: of each of its attentions, (heads of queries, heads of keys)."""

    stream: Index
    encoder_stream: Index | None
    heads: list[tuple[Index, Index]]
    units: Index


@torch.no_grad()
def prune_into(
    side: SideStack,
    stack: torch.nn.Module,
    model: torch.nn.Module,
    blocks: Sequence[Block],
    *,
    encoder_stream: Index | None = None,
) -> Index:
    """Copy weights of ``stack`` into its ``side`` network; returns the kept coordinates (d / r,).

    ``blocks``: those of ``model`` that the side network has a block beside. ``encoder_stream``: what was kept
    of the encoder that a decoder attends to. Raises UserError where the rows and columns of a weight are not
    understood.
    """
    whole, small = backbone_shape(stack.config), backbone_shape(side.stack.config)
    places = [find_places(model, block, whole) for block in blocks]
    sizes = torch.zeros(whole.width)
    for one in (one for many in places for one in many if not one.crossed):
        sizes += one.weight().abs().sum(dim=1 if one.writes_stream else 0)
    stream = _largest(sizes, small.width)
    for rung, block, many in zip(side.rungs, blocks, places, strict=True):
        kept = Kept(
            stream,
            encoder_stream,
            [_heads([p for p in many if p.attention == i], small) for i in range(len(block.attentions))],
            _units([p for p in many if p.attention is None], _inner_size(rung.block, block)),
        )
        _fill_block(rung.block, model.get_submodule(block.path), many, kept, whole)
        _choose(rung.down, stream)
    _choose(side.first, stream)
    _fill_outside(side, stack, stream)
    return stream


def _fill_block(
    side: torch.nn.Module, block: torch.nn.Module, places: Sequence[BlockLinear], kept: Kept, whole: Shape
) -> None:
    by_name = {one.name: one for one in places}
    for name, parameter in side.named_parameters():
        module, _, kind = name.rpartition(".")
        if module in by_name and kind == "weight":
            one = by_name[module]
            cut = one.weight()[_rows(one, kept)][:, _columns(one, kept)]
            cut = cut.T if one.transposed else cut
        elif module in by_name:
            cut = block.get_parameter(name).float().cpu()[_rows(by_name[module], kept)]
        else:
            cut = _cut_other(block.get_parameter(name).float().cpu(), parameter.shape, kept, whole)
        if cut.shape != parameter.shape:
            raise UserError(unknown_weight(block, name))
        parameter.copy_(cut)


def _rows(one: BlockLinear, kept: Kept) -> Index:
    if one.writes_stream:
        return kept.stream
    if one.attention is not None:
        return one.head_rows(*kept.heads[one.attention])
    return (torch.arange(one.parts)[:, None] * (one.rows // one.parts) + kept.units).flatten()


def _columns(one: BlockLinear, kept: Kept) -> Index:
    if one.writes_stream and one.attention is None:
        return kept.units
    if one.writes_stream and one.attention is not None:
        size = one.shape.head_size
        return (kept.heads[one.attention][0][:, None] * size + torch.arange(size)).flatten()
    if one.crossed and kept.encoder_stream is not None:
        return kept.encoder_stream
    return kept.stream


def _cut_other(source: torch.Tensor, shape: torch.Size, kept: Kept, whole: Shape) -> torch.Tensor:
    """A norm, or the biases of relative positions, (buckets, heads)."""
    if source.shape == shape:
        return source
    if source.ndim == 1 and len(source) == whole.width:
        return source[kept.stream]
    if source.ndim == 2 and source.shape[1] == whole.heads:
        return source[:, kept.heads[0][0]]
    return source


def _fill_outside(side: SideStack, stack: torch.nn.Module, stream: Index) -> None:
    """Norms and embeddings of positions, beside the blocks."""
    inside = {id(parameter) for parameter in block_list(side.stack).parameters()}
    for name, parameter in side.stack.named_parameters():
        if id(parameter) in inside:
            continue
        source = stack.get_parameter(name).float().cpu()
        cut = source if source.shape == parameter.shape else source[..., stream]
        if cut.shape != parameter.shape:
            raise UserError(unknown_weight(stack, name))
        parameter.copy_(cut)


def _heads(places: Sequence[BlockLinear], small: Shape) -> tuple[Index, Index]:
    """(heads of queries, heads of keys and values) with the largest weights in one attention.

    Heads of queries stay with the head of keys that they share.
    """
    whole = places[0].shape
    by_query, by_key = torch.zeros(whole.heads), torch.zeros(whole.key_heads)
    for one in places:
        weight = one.weight().abs()
        if one.writes_stream:
            by_query += weight.sum(dim=0).view(whole.heads, -1).sum(dim=1)
        else:
            queries, keys = one.by_heads(weight.sum(dim=1))
            by_query += queries
            by_key += keys
    grouped = by_query.view(whole.key_heads, -1)
    keys = _largest(by_key + grouped.sum(dim=1), small.key_heads)
    each = small.heads // small.key_heads
    queries = torch.cat([key * grouped.shape[1] + _largest(grouped[key], each) for key in keys])
    return queries, keys


def _units(places: Sequence[BlockLinear], count: int) -> Index:
    """The units of the feed-forward part with the largest weights, ``count`` of them."""
    sizes = []
    for one in places:
        weight = one.weight().abs()
        rows = weight.sum(dim=1).view(one.parts, -1).sum(dim=0)
        sizes.append(weight.sum(dim=0) if one.writes_stream else rows)
    return _largest(functools.reduce(torch.add, sizes), count)


def _inner_size(side_block: torch.nn.Module, block: Block) -> int:
    """Units of the side block's feed-forward part."""
    return features(side_block.get_submodule(block.leaves.removeprefix(f"{block.path}.")))[0]


def _choose(down: torch.nn.Linear, stream: Index) -> None:
    """Make a downsampling layer the choice of coordinates that was kept."""
    down.weight.zero_()
    down.weight[torch.arange(len(stream)), stream] = 1.0


def _largest(sizes: torch.Tensor, count: int) -> Index:
    """The ``count`` largest, in the order in which they stand."""
    return sizes.topk(count).indices.sort().values
