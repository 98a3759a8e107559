"""Calls the tokenizer on a list of texts and returns arrays: the only call of it on training text."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from hf_align.data.masking import Offsets

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Tokens(NamedTuple):
    """One tokenised text of L tokens.

    ``ids`` (L,) int32. ``offsets`` (L, 2): first and last character (excluded) of each token. ``added`` (L,)
    bool: True for tokens that the tokenizer put around the text by itself.
    """

    ids: npt.NDArray[np.int32]
    offsets: Offsets
    added: npt.NDArray[np.bool_]


def with_whole_offsets(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """The fast tokenizer itself, or a copy that gives the same ids and offsets which include white space.

    Byte-level tokenizers may report the token `` word`` with the offsets of ``word``. Which token the space
    belongs to cannot be told from such offsets, so the setting is switched off in a copy.
    """
    processor = tokenizer.backend_tokenizer.post_processor
    if processor is None:
        return tokenizer
    state = json.loads(processor.__getstate__())
    if not _switch_off_trimming(state):
        return tokenizer
    processor = copy.copy(processor)
    processor.__setstate__(json.dumps(state).encode())
    whole = copy.deepcopy(tokenizer)
    whole.backend_tokenizer.post_processor = processor
    return whole


def _switch_off_trimming(state: Any) -> bool:
    """Set every ``trim_offsets`` in a serialised post-processor to false; whether one was true."""
    found = False
    for part in state.values() if isinstance(state, dict) else state if isinstance(state, list) else ():
        found |= _switch_off_trimming(part)
    if isinstance(state, dict) and state.get("trim_offsets"):
        state["trim_offsets"] = False
        found = True
    return found


def tokenize(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], *, add_special_tokens: bool
) -> list[Tokens]:
    """The tokens of each text, never cut and never padded."""
    encoded = tokenizer(
        list(texts),
        add_special_tokens=add_special_tokens,
        padding=False,
        truncation=False,
        return_attention_mask=False,
        return_token_type_ids=False,
        return_offsets_mapping=True,
        return_special_tokens_mask=True,
        verbose=False,
    )
    return [
        Tokens(
            np.array(ids, dtype=np.int32),
            np.array(offsets, dtype=np.int64).reshape(-1, 2),
            np.array(added, dtype=bool),
        )
        for ids, offsets, added in zip(
            encoded["input_ids"], encoded["offset_mapping"], encoded["special_tokens_mask"], strict=True
        )
    ]
