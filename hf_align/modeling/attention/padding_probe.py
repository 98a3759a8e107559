"""Find out by trying whether a model takes rows of unequal length, padded on the right, in one batch.

Nearly every model does. One that takes no mask (CPM-Ant counts its own padding, on the left) would be trained
on rows that depend on what they are computed with; its batches are to hold rows of one length.
"""

from __future__ import annotations

import logging
from typing import Any

import torch
from transformers import PreTrainedModel

from hf_align.modeling.quantization import independent_rows

logger = logging.getLogger(__name__)

EXACT, ROUNDED = 1e-4, 5e-2
"""Largest distance of states that is rounding, as a share of their size: in float32, in half precision."""

_LONG, _SHORT = 7, 5
_MARK = "hf_align_takes_no_padding"


def settle_padding(model: PreTrainedModel) -> None:
    """Mark ``model`` where padding changes what comes of a row, with a line in the log."""
    mark(model, padding_differs(model))


def mark(model: PreTrainedModel, differs: bool) -> None:
    """Let ``model`` be known as one that takes no padding, if it ``differs``."""
    setattr(model, _MARK, differs)


def padding_differs(model: PreTrainedModel) -> bool:
    """Whether padding changes what comes of a row; the log says so."""
    if model.config.is_encoder_decoder:
        return False
    try:
        difference, limit = _difference(model)
    except (RuntimeError, ValueError, TypeError, IndexError, AttributeError, KeyError) as error:
        # The few tokens do not suit it; whatever is wrong shows in its first batch.
        logger.debug("%s: padding was not tried (%s)", type(model).__name__, error)
        return False
    if difference > limit:
        logger.warning(
            "%s: only rows of equal length are computed together (beside padding a row differs from the same "
            "row alone by %.1e)",
            type(model).__name__,
            difference,
        )
    return difference > limit


def takes_no_padding(model: Any) -> bool:
    """Whether rows of a batch have to be of equal length. ``model``: as it was settled, or around it."""
    return bool(getattr(model, _MARK, False))


@torch.no_grad()
def _difference(model: PreTrainedModel) -> tuple[float, float]:
    """(how far the states of a padded row are from those of the row alone, how far rounding may be)."""
    vocabulary = model.config.get_text_config().vocab_size
    padding = getattr(model.config.get_text_config(), "pad_token_id", None)
    ids = torch.full((2, _LONG), padding if isinstance(padding, int) else 0, device=model.device)
    ids[0] = torch.arange(_LONG, device=model.device) * 3 + 5
    ids[1, :_SHORT] = torch.arange(_SHORT, device=model.device) * 7 + 11
    mask = torch.ones_like(ids)
    mask[1, _SHORT:] = 0
    ids %= vocabulary
    training = model.training
    model.eval()
    try:
        with independent_rows(model):
            together = _states(model, ids, mask)[1, :_SHORT]
            alone = _states(model, ids[1:, :_SHORT], mask[1:, :_SHORT])[0]
    finally:
        model.train(training)
    exact = all(p.dtype == torch.float32 for p in model.parameters() if p.is_floating_point())
    sizes = torch.linalg.vector_norm(alone, dim=-1).clamp(min=1e-12)
    shares = torch.linalg.vector_norm(together - alone, dim=-1) / sizes
    # In half precision an expert that is chosen otherwise by rounding moves one token far.
    return (float(shares.max()), EXACT) if exact else (float(shares.median()), ROUNDED)


def _states(model: PreTrainedModel, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    output = model.base_model(input_ids=ids, attention_mask=mask)
    states: torch.Tensor = output.last_hidden_state
    return states.float()
