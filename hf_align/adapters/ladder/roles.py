"""What rows and columns of a block's linear layers mean: heads, units, coordinates of the residual stream.

``blocks`` tells which layers write the stream. Of the other layers those of an attention give queries, keys
and values, apart or fused, and those of the feed-forward part its units. Other forms are refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from hf_align.adapters.blocks import Block, features, is_linear
from hf_align.adapters.ladder.shape import Shape
from hf_align.errors import UserError

_CROSSED = ("encdec", "encoder_attn", "crossattention", "cross_attn")


@dataclass(frozen=True)
class BlockLinear:
    """A linear layer of a block. ``name``: its path in the block. ``rows``: its output features.

    ``attention``: which attention of the block it belongs to, by number; None: the feed-forward part.
    ``crossed``: it reads what an encoder gives. ``parts``: in a feed-forward part, how many layers of the
    same size are fused into it.
    """

    name: str
    module: Any
    shape: Shape
    attention: int | None
    writes_stream: bool
    rows: int
    parts: int = 1

    @property
    def crossed(self) -> bool:
        leaf = self.name.rpartition(".")[2]
        return any(word in self.name.lower() for word in _CROSSED) and leaf[0] in "kv"

    @property
    def transposed(self) -> bool:
        """Whether its weight is kept as (in, out), as GPT-2 does."""
        return not isinstance(self.module, torch.nn.Linear)

    def weight(self) -> torch.Tensor:
        """(out, in) float32 on the CPU; dequantised where it is quantised."""
        from peft.utils.integrations import dequantize_module_weight

        scales = getattr(getattr(self.module, "state", None), "SCB", None)
        scales = getattr(self.module.weight, "SCB", None) if scales is None else scales
        if scales is not None:  # int8, for which PEFT multiplies by a unit matrix, which not every CPU can
            return (self.module.weight.detach().float() * (scales.float() / 127)[:, None]).cpu()
        weight: torch.Tensor = dequantize_module_weight(self.module).detach().float().cpu()
        return weight.T if self.transposed else weight

    def head_rows(self, queries: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
        """The rows of these heads, in the order of a layer that has no others.

        ``queries``, ``keys``: numbers of heads; each head of keys has the same number of the queries' heads.
        """
        by_query, by_key = self._rows_by_head()
        if not len(by_key):
            return by_query[queries].flatten()
        if not len(by_query):
            return by_key[keys].flatten()
        if self._interleaved:
            each = queries.view(len(keys), -1)
            pairs = zip(each, keys, strict=True)
            return torch.cat([torch.cat([by_query[q].flatten(), by_key[k].flatten()]) for q, k in pairs])
        size = self.shape.head_size
        chosen = by_key[keys]
        return torch.cat(
            [by_query[queries].flatten(), chosen[:, :size].flatten(), chosen[:, size:].flatten()]
        )

    def by_heads(self, sizes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """``sizes`` (rows,) summed over heads of queries (heads,) and over heads of keys (key heads,)."""
        by_query, by_key = self._rows_by_head()
        return (
            sizes[by_query].sum(dim=1) if len(by_query) else torch.zeros(self.shape.heads),
            sizes[by_key].sum(dim=1) if len(by_key) else torch.zeros(self.shape.key_heads),
        )

    def _rows_by_head(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Rows of queries (heads, size) and of keys and values (key heads, size or 2 x size); empty: none.

        Where every head has keys of its own, a layer of keys alone counts as one of queries: its rows are
        ordered alike.
        """
        shape, none, every = self.shape, torch.zeros(0, dtype=torch.long), torch.arange(self.rows)
        queries, keys = shape.heads * shape.head_size, shape.key_heads * shape.head_size
        if self.rows == queries:
            return every.view(shape.heads, -1), none
        if self.rows == keys:
            return none, every.view(shape.key_heads, -1)
        if self._interleaved:
            grouped = every.view(shape.key_heads, -1, shape.head_size)
            return grouped[:, :-2].reshape(shape.heads, -1), grouped[:, -2:].reshape(shape.key_heads, -1)
        k, v = every[queries : queries + keys], every[queries + keys :]
        by_key = torch.cat([k.view(shape.key_heads, -1), v.view(shape.key_heads, -1)], dim=1)
        return every[:queries].view(shape.heads, -1), by_key

    @property
    def _interleaved(self) -> bool:
        """Whether a fused layer holds queries, keys and values head by head (GPT-NeoX, BLOOM, Falcon)."""
        return "query_key_value" in self.name


def find_places(model: torch.nn.Module, block: Block, shape: Shape) -> list[BlockLinear]:
    """The linear layers of a block in the order of its modules. Raises UserError for one of another form."""
    prefix = f"{block.path}."
    inside = {name: module for name, module in model.get_submodule(block.path).named_modules()}
    outputs = {name.removeprefix(prefix): number for number, name in enumerate(block.attentions)}
    leaves = block.leaves.removeprefix(prefix)
    units = features(inside[leaves])[0]
    places = []
    for name, module in inside.items():
        if not is_linear(module):
            continue
        attention = _attention_of(name, outputs)
        rows = features(module)[1]
        writes = name in outputs or name == leaves
        parts = 1 if attention is not None or writes else max(1, rows // units)
        place = BlockLinear(name, module, shape, attention, writes, rows, parts)
        if not _fits(place, units):
            raise UserError(unknown_weight(model.get_submodule(block.path), f"{name}.weight"))
        places.append(place)
    return places


def unknown_weight(block: torch.nn.Module, name: str) -> str:
    """The message for a weight whose rows and columns have no known role."""
    return (
        f"ladder_init: pruned does not know what the rows and columns of {name} in {type(block).__name__} "
        "mean; set ladder_init to random"
    )


def _attention_of(name: str, outputs: Mapping[str, int]) -> int | None:
    """Of the attention whose output layer stands beside ``name``; None where there is none."""
    parent = name.rpartition(".")[0]
    found = [number for output, number in outputs.items() if output.rpartition(".")[0] == parent]
    return found[0] if found and parent else None


def _fits(place: BlockLinear, units: int) -> bool:
    shape, read = place.shape, features(place.module)[0]
    queries, keys = shape.heads * shape.head_size, shape.key_heads * shape.head_size
    if place.writes_stream:
        return place.rows == shape.width and read == (units if place.attention is None else queries)
    if place.attention is None:
        return read == shape.width and place.rows % units == 0
    # What an encoder gives may be of another width.
    return (place.crossed or read == shape.width) and place.rows in (queries, keys, queries + 2 * keys)
