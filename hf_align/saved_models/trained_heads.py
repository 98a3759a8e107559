"""A model with a trained head: the saved adapter put on it, and both merged into one plain model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_align.modeling.pad_token import set_pad_token
from hf_align.saved_models.merging import compute_in_float32, merge
from hf_align.saved_models.reward_scoring import add_row_for_padding
from hf_align.saved_models.run_models import attach_adapter

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def with_saved_adapter(base: Any, adapter: Path, tokenizer: PreTrainedTokenizerBase) -> Any:
    """``base``, a model with a head, and on it the adapter in the folder ``adapter``; computes in float32."""
    add_row_for_padding(base, tokenizer)
    set_pad_token(base, int(tokenizer.pad_token_id))
    model = attach_adapter(base, adapter, tokenizer)
    compute_in_float32(model)
    return model


def write_merged(model: Any, folder: str | Path, tokenizer: PreTrainedTokenizerBase) -> None:
    """Add ``model``'s adapter to its weights and write them to ``folder``, in float32, with the tokenizer."""
    merged = merge(model)
    merged.config.dtype = "float32"
    merged.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
