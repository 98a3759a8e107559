"""The shape of a side network: its width, heads and layers, and a configuration that builds them.

Attention heads keep their size, and there are fewer of them: rotary positions, scales and pruned weights then
mean the same in the side network as in the backbone. What this leaves out: the modules (``side``).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hf_align.errors import UserError

_HEADS = ("num_attention_heads", "encoder_attention_heads", "decoder_attention_heads")
_KEY_HEADS = ("num_key_value_heads", "num_kv_heads")
_INNER = (
    "intermediate_size",
    "n_inner",
    "ffn_dim",
    "d_ff",
    "encoder_ffn_dim",
    "decoder_ffn_dim",
    "ffn_hidden_size",
)
_LAYERS = ("num_hidden_layers", "num_layers", "num_decoder_layers", "encoder_layers", "decoder_layers")
_TOKEN_IDS = ("pad_token_id", "bos_token_id", "eos_token_id")


@dataclass(frozen=True)
class Shape:
    """Width of the states, attention heads, heads of keys and values, and the size of each head."""

    width: int
    heads: int
    key_heads: int
    head_size: int


def kept_layers(count: int, *, every: int, chosen: Sequence[int] | None) -> list[int]:
    """Numbers of the backbone's blocks, from 0, that a side block stands beside.

    Every ``every``-th, counted from the last one, whose output says most about the answer; or those
    ``chosen``. Raises UserError for a number that is not there and where nothing is left.
    """
    if chosen is None:
        if every > count:
            raise UserError(f"ladder_every: found {every}, expected at most the model's {count} blocks")
        return sorted(range(count - 1, -1, -every))
    wrong = [number for number in chosen if not 0 <= number < count]
    if wrong or not chosen:
        raise UserError(
            f"ladder_layers: found {list(chosen)}, expected numbers from 0 to {count - 1}: the model has "
            f"{count} blocks"
        )
    return sorted(set(chosen))


def backbone_shape(config: Any) -> Shape:
    """The shape of the backbone by its configuration. Raises UserError for one without attention heads."""
    heads, width = _heads(config), getattr(config, "hidden_size", None)
    if not heads or not width:
        raise UserError(
            f"adapter: ladder needs a model with attention heads, and {config.model_type} has none; choose "
            "another adapter"
        )
    key_heads = next((value for name in _KEY_HEADS if (value := getattr(config, name, None))), heads)
    if getattr(config, "multi_query", False) and not getattr(config, "new_decoder_architecture", False):
        key_heads = 1
    return Shape(width, heads, key_heads, _own_head_size(config) or width // heads)


def side_shape(config: Any, reduction: int) -> Shape:
    """The backbone's shape divided by ``reduction``, in whole heads.

    Where the configuration ties the size of a head to the width, the width is a whole number of heads, so
    that the reduction is met only about. Raises UserError where nothing would be reduced.
    """
    whole = backbone_shape(config)
    groups = whole.heads // whole.key_heads
    if _own_head_size(config):
        key_heads = max(1, round(whole.key_heads / reduction))
        heads = key_heads * max(1, round(whole.heads / (reduction * key_heads)))
        width = 8 * max(1, round(whole.width / (8 * reduction)))
    else:
        heads = max(1, round(whole.heads / reduction))
        key_heads = max(n for n in range(1, heads + 1) if heads % n == 0 and n <= max(1, heads // groups))
        width = heads * whole.head_size
    if width >= whole.width:
        raise UserError(
            f"ladder_reduction_factor: found {reduction}, which leaves a width of {width} beside the model's "
            f"{whole.width} ({whole.heads} heads of {whole.head_size}); give a larger number, or another "
            "adapter to a model as small as this"
        )
    return Shape(width, heads, key_heads, whole.head_size)


def side_config(config: Any, reduction: int, layers: Sequence[int]) -> Any:
    """``config`` with the dimensions of the side network beside these ``layers``."""
    shape, small = side_shape(config, reduction), copy.deepcopy(config)
    count = len(layers)
    for name, value in list(vars(config).items()):
        per_layer = "layer" in name and isinstance(value, list | tuple) and len(value) > max(layers)
        if per_layer and len(value) == getattr(config, "num_hidden_layers", None):
            setattr(small, name, [value[layer] for layer in layers])
    for name, new in (
        *((name, shape.heads) for name in _HEADS),
        *((name, shape.key_heads) for name in _KEY_HEADS),
        *((name, count) for name in _LAYERS),
        ("hidden_size", shape.width),
        ("word_embed_proj_dim", shape.width),
        ("vocab_size", 1),
    ):
        if getattr(small, name, None) is not None:
            setattr(small, name, new)
    for name in _INNER:
        if getattr(small, name, None) is not None:
            setattr(small, name, max(1, round(getattr(config, name) / reduction)))
    for name in _TOKEN_IDS:
        setattr(small, name, None)
    for name in ("quantization_config", "decoder_start_token_id"):
        if hasattr(small, name):
            delattr(small, name)
    return small


def _heads(config: Any) -> int | None:
    return next((value for name in _HEADS if (value := getattr(config, name, None))), None)


def _own_head_size(config: Any) -> int | None:
    """The size of a head where it is a setting of its own and not the width over the number of heads."""
    return vars(config).get("head_dim") or vars(config).get("d_kv")
