"""Attention of the next token of many sequences that continue shared prompts.

Keys and values of a prompt stay where the prefill left them, once for all samples of the prompt; what each
sequence has written itself lies in its own cache. The query heads of all samples that meet the same keys are
rows of one matrix product, where a fused kernel would read the keys once for every sample. What this leaves
out: sliding windows, which no sequence that shares a prompt may have.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import torch

from hf_align.modeling.attention.segments import SEGMENT_ATTENTION, SEGMENT_ATTENTION_LOOP, segment_attention

DECODING_ATTENTION = "hf_align_decoding"


@dataclass
class SharedPrompts:
    """Keys and values of P prompts of W positions, and which of R sequences continues which of them.

    ``keys`` and ``values``: (P, G, W, D) for each layer. ``hidden`` (P, W) bool: padding before a shorter
    prompt, or None where there is none. ``prompt_of_row`` (R,) int64, ascending. ``layers_used``: layers
    that have asked for them; what a model leaves out of its attention would be missing without a word.
    """

    keys: list[torch.Tensor]
    values: list[torch.Tensor]
    hidden: torch.Tensor | None
    prompt_of_row: torch.Tensor
    layers_used: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._lay_out()

    def fit(self, layer: int, key: torch.Tensor, value: torch.Tensor) -> bool:
        """Whether what a cache keeps is what attention gets: some models keep it compressed (DeepSeek).

        ``key`` and ``value`` (R, G, T, D): those that attention gets.
        """
        kept = (self.keys[layer], self.values[layer])
        return all(a.shape[1::2] == b.shape[1::2] for a, b in zip(kept, (key, value), strict=True))

    def keep(self, rows: torch.Tensor) -> None:
        """Go on with these of the R sequences; prompts that none of them continues are dropped."""
        kept, self.prompt_of_row = torch.unique_consecutive(self.prompt_of_row[rows], return_inverse=True)
        if len(kept) < len(self.keys[0]):
            self.keys = [keys[kept] for keys in self.keys]
            self.values = [values[kept] for values in self.values]
            self.hidden = None if self.hidden is None else self.hidden[kept]
        self._lay_out()

    def _lay_out(self) -> None:
        """Give every sequence a slot: (P, C) of them, where C is the most samples of one prompt."""
        rows = len(self.prompt_of_row)
        counts = torch.bincount(self.prompt_of_row)
        self.slots = (len(counts), int(counts.max()))
        first = counts.cumsum(0) - counts
        within = torch.arange(rows, device=counts.device) - first[self.prompt_of_row]
        self.slot_of_row = self.prompt_of_row * self.slots[1] + within
        self.full = rows == self.slots[0] * self.slots[1]
        # Slots without a sequence repeat the first one; nobody reads what comes out of them.
        self.row_of_slot = torch.zeros(self.slots[0] * self.slots[1], dtype=torch.long, device=counts.device)
        self.row_of_slot[self.slot_of_row] = torch.arange(rows, device=counts.device)
        self.row_mask = None if self.hidden is None else ~self.hidden[self.prompt_of_row][:, None, None, :]

    def multiply(self, rows: torch.Tensor, of_prompts: torch.Tensor) -> torch.Tensor:
        """``rows`` (R, G, h, X) times its prompt's matrix, ``of_prompts`` (P, G, X, Y): (R, G, h, Y)."""
        (prompts, samples), (_, groups, heads, inner) = self.slots, rows.shape
        slots = rows if self.full else rows[self.row_of_slot]
        together = slots.view(prompts, samples, groups, heads, inner).transpose(1, 2)
        product = torch.bmm(together.reshape(prompts * groups, -1, inner), of_prompts.flatten(0, 1))
        apart = product.view(prompts, groups, samples, heads, -1).transpose(1, 2).flatten(0, 1)
        return apart if self.full else apart[self.slot_of_row]


def decoding_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float | None = None,
    softcap: float | None = None,
    sliding_window: int | None = None,
    shared_prompts: SharedPrompts | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """The attention function while sampling; more than one new position is left to that of training.

    ``query`` (R, H, 1, D); ``key`` and ``value`` (R, G, T, D): all keys, or with ``shared_prompts`` what the
    sequences have written themselves. ``attention_mask`` (R, 1, 1, T) bool, True where a key counts. Returns
    ``(output (R, 1, H, D), None)``. Weights are computed in float32.
    """
    if query.shape[2] != 1 or sliding_window is not None or "segments" in kwargs:
        options = {"scaling": scaling, "softcap": softcap, "sliding_window": sliding_window}
        return segment_attention(module, query, key, value, attention_mask, **options, **kwargs)
    if query.dtype != value.dtype or torch.is_autocast_enabled(query.device.type):
        # Rotated queries and keys of a model in float32 are float32 also under autocast.
        query, key = query.to(value.dtype), key.to(value.dtype)
        with torch.autocast(query.device.type, enabled=False):
            return _decode(module, query, key, value, attention_mask, scaling, softcap, shared_prompts), None
    return _decode(module, query, key, value, attention_mask, scaling, softcap, shared_prompts), None


def _decode(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    scaling: float | None,
    softcap: float | None,
    prompts: SharedPrompts | None,
) -> torch.Tensor:
    rows, heads, _, size = query.shape
    groups = key.shape[1]
    # The query heads of one key head are rows of one product: (R, G, H / G, D).
    grouped = query.reshape(rows, groups, heads // groups, size)
    # This way round keys that lie apart in a larger buffer are read in place.
    scores = torch.bmm(key.flatten(0, 1), grouped.flatten(0, 1).transpose(1, 2)).transpose(1, 2)
    scores = scores.unflatten(0, (rows, groups))
    width = 0
    if prompts is not None and not prompts.fit(cast(int, module.layer_idx), key, value):
        prompts = None  # what comes out is not used, since this layer stays out of layers_used
    if prompts is not None:
        layer = cast(int, module.layer_idx)
        prompts.layers_used.add(layer)
        scores = torch.cat([prompts.multiply(grouped, prompts.keys[layer].transpose(2, 3)), scores], dim=-1)
        width = prompts.keys[layer].shape[2]
        mask = prompts.row_mask
    scores = scores.float().mul_(size**-0.5 if scaling is None else scaling)
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    if mask is not None:
        scores[..., : mask.shape[-1]].masked_fill_(~mask, float("-inf"))
    weights = torch.softmax(scores, dim=-1).to(value.dtype)
    output = torch.bmm(weights[..., width:].flatten(0, 1), value.flatten(0, 1)).unflatten(0, (rows, groups))
    if prompts is not None:
        output = output + prompts.multiply(weights[..., :width], prompts.values[layer])
    return output.reshape(rows, 1, heads, -1)


@dataclass(frozen=True)
class DecodingSupport:
    """What a model's attention can do while sampling.

    ``shares``: read shared prompts, as far as the model can tell; whether it does is seen from
    ``SharedPrompts.layers_used``. ``packs``: it has been probed and takes prompts side by side.
    """

    shares: bool = False
    packs: bool = False


@contextlib.contextmanager
def decoding(model: Any) -> Iterator[DecodingSupport]:
    """Let ``model``, with an adapter or without, use :func:`decoding_attention`, where it can."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    before = getattr(base.config, "_attn_implementation", None)
    # An "eager" model was asked for its own attention; leave it that.
    able = before not in (None, "eager") and base._can_set_attn_implementation()
    if not able:
        yield DecodingSupport()
        return
    AttentionInterface.register(DECODING_ATTENTION, decoding_attention)
    AttentionMaskInterface.register(DECODING_ATTENTION, sdpa_mask)
    base.set_attn_implementation(DECODING_ATTENTION)
    try:
        yield DecodingSupport(shares=True, packs=before in (SEGMENT_ATTENTION, SEGMENT_ATTENTION_LOOP))
    finally:
        base.set_attn_implementation(before)
