"""A key-value cache that is written in place: transformers' own copies all of it for every new token.

And what is asked of the caches of any family: the keyword that takes them, and picking sequences from them.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from transformers import DynamicCache, PreTrainedConfig
from transformers.cache_utils import DynamicLayer

from hf_align.errors import UserError


class GrowingLayer(DynamicLayer):
    """A full-attention layer with ``room`` for further tokens behind those of the first call.

    ``keys`` and ``values`` are views of what has been written.
    """

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room
        self._buffers: tuple[torch.Tensor, torch.Tensor] | None = None

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        used = self.get_seq_length()
        filled = used + key_states.shape[-2]
        if self._buffers is None or filled > self._buffers[0].shape[-2]:
            self._buffers = (
                self._larger(self.keys, key_states, used, filled),
                self._larger(self.values, value_states, used, filled),
            )
        keys, values = self._buffers
        keys[:, :, used:filled] = key_states
        values[:, :, used:filled] = value_states
        self.keys, self.values = keys[:, :, :filled], values[:, :, :filled]
        return self.keys, self.values

    def _larger(self, old: torch.Tensor, new: torch.Tensor, used: int, filled: int) -> torch.Tensor:
        batch, heads, _, size = new.shape
        buffer = new.new_empty(batch, heads, filled + self.room, size)
        if used:
            buffer[:, :, :used] = old
        return buffer

    def reorder_cache(self, beam_idx: torch.Tensor) -> None:
        super().reorder_cache(beam_idx)
        self._buffers = None


def growing_cache(config: PreTrainedConfig, room: int) -> DynamicCache:
    """transformers' cache for a model of this ``config``, with its full-attention layers written in place.

    Layers with a sliding window keep transformers' own form, which holds the window only. ``room``: tokens to
    make place for behind the prompt; more than that are copied into a larger place.
    """
    cache = DynamicCache(config=config)
    cache.layers = [GrowingLayer(room) if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


def grows_everywhere(cache: DynamicCache) -> bool:
    """Whether every layer of a cache in use keeps all keys."""
    return bool(cache.layers) and all(type(layer) is GrowingLayer for layer in cache.layers)


def pick_rows(cache: DynamicCache, rows: torch.Tensor) -> None:
    """Go on with these ``rows`` (R,) int64 of a cache, in this order; a row may be picked several times.

    Every state of a sequence goes along, as between beams, also those of layers without keys.
    """
    cache.reorder_cache(rows)


CACHE_KEYWORDS = ("cache", "past_key_values", "cache_params")
"""What ``forward`` calls its cache: ``cache`` from transformers 5.24 on, before it one of the others."""


def cache_keyword(model: Any) -> str:
    """The keyword under which the ``forward`` of ``model``, with an adapter or without, takes a cache."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    names = inspect.signature(getattr(type(base), "forward", type(base).__call__)).parameters
    return next((name for name in CACHE_KEYWORDS if name in names), "past_key_values")


def rename_cache(kwargs: Mapping[str, Any], keyword: str) -> dict[str, Any]:
    """``kwargs`` with the cache, under whichever keyword it was given, under ``keyword``.

    A keyword that was given None is dropped.
    """
    renamed = {name: value for name, value in kwargs.items() if name not in CACHE_KEYWORDS}
    given = [kwargs[name] for name in CACHE_KEYWORDS if kwargs.get(name) is not None]
    return {**renamed, keyword: given[0]} if given else renamed


def check_written(model: Any, cache: DynamicCache) -> None:
    """Raise UserError where ``model`` has run and kept nothing in ``cache``: its next token would follow from
    the last one alone."""
    for layer in cache.layers:
        state = getattr(layer, "has_previous_state", False)
        if getattr(layer, "is_initialized", False) or any(
            state.values() if isinstance(state, dict) else [state]
        ):
            return
    raise UserError(
        f"{type(model).__name__} keeps nothing in the cache that transformers makes for it, so that it "
        "cannot write answers here"
    )
