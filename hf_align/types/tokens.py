"""New tokens of an extended tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


@dataclass(frozen=True)
class NewToken:
    """``token``: its form in the vocabulary. ``pieces``: the ids of the tokens that it took before, in order;
    empty where the old vocabulary had nothing but the unknown token for it."""

    token: str
    pieces: tuple[int, ...]


@dataclass(frozen=True)
class Extension:
    """``tokenizer``: the extended one. Its new ids are ``first_id``, ``first_id`` + 1, … in the order of
    ``tokens``, behind all old ones."""

    tokenizer: PreTrainedTokenizerFast
    first_id: int
    tokens: Sequence[NewToken]
