"""Which rows a micro-batch must not mix, by their lengths: they would change what their neighbours give."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

from hf_align.errors import UserError
from hf_align.modeling.attention.padding_probe import takes_no_padding
from hf_align.modeling.positions import longrope_bound
from hf_align.modeling.virtual_tokens import count_virtual_tokens

Apart = Callable[[tuple[int, ...]], Hashable]


def lengths_apart(model: Any, *, padded: bool) -> Apart | None:
    """Of the lengths of a row's sequences: rows for which it differs never share a batch. None: all may.

    ``model``: as it is trained, with whatever is wrapped around it. ``padded``: whether batches are. Where
    sequences of one row are on both sides of longrope's bound, all of them are read as the longest is.
    """
    inner = next((m for m in model.modules() if hasattr(getattr(m, "config", None), "get_text_config")), None)
    if inner is None:
        return None
    if padded and takes_no_padding(inner):
        name = type(inner).__name__

        def alike(lengths: tuple[int, ...]) -> Hashable:
            if len(set(lengths)) > 1:
                raise UserError(
                    f"{name} gives something else for a row beside padding, and the answers to a prompt "
                    "differ in length; train it with a stage of single rows (sft), or use another model"
                )
            return lengths[0]

        return alike
    bound = longrope_bound(inner)
    if bound is None:
        return None
    most = bound - count_virtual_tokens(inner)
    return lambda lengths: max(lengths) > most
