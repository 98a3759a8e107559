"""Keys and values of the side network beside those of the backbone, in one cache.

The layers of the side network stand behind those of the backbone in the same cache object, so that whatever
is done to a cache (repeat, select or reorder its rows, crop it) is done to both. The side network itself sees
its own layers only, counted from 0.
"""

from __future__ import annotations

import copy
from typing import Any

from transformers import DynamicCache, EncoderDecoderCache


def new_cache(config: Any) -> DynamicCache | EncoderDecoderCache:
    """An empty cache as a model of this ``config`` makes it for itself."""
    if getattr(config, "is_encoder_decoder", False):
        return EncoderDecoderCache(DynamicCache(config=config), DynamicCache(config=config))
    return DynamicCache(config=config)


def side_cache(cache: Any, layers: list[int], count: int) -> Any:
    """A view of ``cache`` with the layers of the side network alone, which are added where they are missing.

    ``layers``: the backbone's, of ``count``, that the side network's stand beside. Called before the backbone
    runs, which has to find its own layers first. Raises ValueError for a cache that the backbone has filled
    without the side network.
    """
    if isinstance(cache, EncoderDecoderCache):
        parts = (cache.self_attention_cache, cache.cross_attention_cache)
        return EncoderDecoderCache(*(side_cache(part, layers, count) for part in parts))
    while len(cache.layers) < count:  # a cache without a configuration makes its layers as they are used
        cache.layers.append(cache.layer_class_to_replicate())
    if len(cache.layers) == count:
        if any(layer.get_seq_length() for layer in cache.layers):
            raise ValueError("this cache was filled without the ladder; begin with an empty one")
        cache.layers += [copy.deepcopy(cache.layers[layer]) for layer in layers]
    view = DynamicCache()
    view.layers = cache.layers[count:]
    view.layer_class_to_replicate = None
    return view


def side_prompts(shared: Any, count: int) -> Any:
    """A view of the prompts that sequences share (``modeling.decoding``) with the side network's layers.

    ``count``: layers of the backbone, which come first.
    """
    view = copy.copy(shared)
    view.keys, view.values, view.layers_used = shared.keys[count:], shared.values[count:], set()
    return view
