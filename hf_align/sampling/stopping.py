"""Which tokens end an answer: what the model and the tokenizer say, and what the chat template writes.

Many tokenizers name another token as end of sequence than the one their template ends a turn with; a model
trained on that template stops with the latter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hf_align.data.chat.rendering import make_encoder
from hf_align.data.reading.raw import MalformedRow
from hf_align.errors import UserError
from hf_align.types import Example, Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def stop_token_ids(model: Any, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Ids that end an answer, ascending."""
    own = getattr(model, "generation_config", None)
    listed = None if own is None else own.eos_token_id
    ids = set(listed if isinstance(listed, list) else [listed])
    ids |= {tokenizer.eos_token_id, end_of_turn_id(tokenizer)}
    return sorted(i for i in ids if i is not None)


def end_of_turn_id(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The special token that the chat template writes after an answer; None if it writes none."""
    if not tokenizer.chat_template or not tokenizer.is_fast:
        return None
    example = Example(
        messages=(Message("user", "a"), Message("assistant", "b")), source="the chat template's own test"
    )
    try:
        row = make_encoder(tokenizer, train_on="last", require_end_of_turn=False).encode([example])[0]
    except UserError:  # a template that is no valid Jinja; whoever renders with it says so
        return None
    if isinstance(row, MalformedRow) or not row.target_mask.any():
        return None
    last = int(row.input_ids[row.target_mask][-1])
    return last if last in _special_ids(tokenizer) else None


def _special_ids(tokenizer: PreTrainedTokenizerBase) -> set[int]:
    added = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    return added | set(tokenizer.all_special_ids)
