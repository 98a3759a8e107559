"""How many tokens a model has positions for, and whether the rows of a run stay within them."""

from __future__ import annotations

import logging
from typing import Any

from hf_align.errors import UserError

logger = logging.getLogger(__name__)


def count_positions(model: Any) -> int | None:
    """How many tokens the model has positions for; None where its configuration does not say.

    RoBERTa and its kin count positions from behind the pad id on; their configuration counts those before it
    as well.
    """
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if not isinstance(limit, int) or limit < 1:
        return None
    modules = model.named_modules() if hasattr(model, "named_modules") else ()
    tables = [module for name, module in modules if name.endswith("position_embeddings")]
    paddings = [getattr(table, "padding_idx", None) for table in tables]
    return limit - max((padding + 1 for padding in paddings if padding is not None), default=0)


def check_context(model: Any, longest: int, *, key: str = "max_length", virtual_tokens: int = 0) -> None:
    """Raise UserError where ``longest``, the tokens of the longest row, exceeds the model's positions.

    ``key``: the option that limits them. ``virtual_tokens``: those that an adapter puts before each row.
    """
    limit = count_positions(model)
    if limit is None:
        return
    room = limit - virtual_tokens
    if room < longest:
        beside = f", of which num_virtual_tokens takes {virtual_tokens:,}" if virtual_tokens else ""
        advice = f"set {key} to {room} or less" if room > 0 else "lower num_virtual_tokens"
        more = ", with overlong: drop or truncate" if key == "max_length" and room > 0 else ""
        raise UserError(
            f"{key}: rows have up to {longest:,} tokens, and the model was made for {limit:,} "
            f"positions{beside}; {advice}{more}"
        )
    bound = longrope_bound(model)
    if bound is not None and longest > bound:
        logger.info(
            "%s: rows have up to %d tokens. Those with more than %d share no micro-batch with others: the "
            "model (longrope) reads them by other positions",
            key,
            longest,
            bound,
        )


def longrope_bound(model: Any) -> int | None:
    """The length, in tokens, up to which the model reads positions by its first set of frequencies; None for
    a model with one set.

    longrope has two, and takes one of them for a whole batch, by its longest sequence.
    """
    settings = getattr(model.config.get_text_config(), "rope_parameters", None) or {}
    for each in (settings, *(value for value in settings.values() if isinstance(value, dict))):
        bound = each.get("original_max_position_embeddings")
        if each.get("rope_type") == "longrope" and isinstance(bound, int):
            return bound
    return None
