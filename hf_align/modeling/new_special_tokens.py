"""Special tokens that a tokenizer gets beside its own: never split, with rows behind the old ones.

Their embeddings are made by ``new_tokens``; what an ordinary extension of a vocabulary does with text is the
business of the command that makes it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hf_align.errors import UserError
from hf_align.types.tokens import Extension, NewToken

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

logger = logging.getLogger(__name__)


def add_special_tokens(
    tokenizer: PreTrainedTokenizerBase,
    tokens: Sequence[str],
    *,
    before: PreTrainedTokenizerBase | None = None,
) -> Extension:
    """``tokenizer`` with these as special tokens, in place; those that its vocabulary has keep their ids.

    ``before``: the tokenizer whose pieces new rows start from, by default ``tokenizer`` as it was.

    Raises UserError where the tokenizer does not put new ids right behind its old ones.
    """
    vocabulary = tokenizer.get_vocab()
    wanted = list(dict.fromkeys(tokens))
    known = [token for token in wanted if token in vocabulary]
    if known:
        logger.info("additional_special_tokens: in the vocabulary already: %s", ", ".join(map(repr, known)))
    first = max(vocabulary.values()) + 1
    old: Any = before or tokenizer
    new = [NewToken(token, _pieces(old, token)) for token in wanted if token not in vocabulary]
    tokenizer.add_special_tokens({"extra_special_tokens": wanted}, replace_extra_special_tokens=False)
    ids = tokenizer.convert_tokens_to_ids([token.token for token in new])
    if ids != list(range(first, first + len(new))):
        raise UserError(
            f"additional_special_tokens: the tokenizer gives them the ids {ids}, and its vocabulary ends "
            f"at {first - 1}; expected ids right behind it. This tokenizer cannot be extended."
        )
    made: Any = tokenizer
    return Extension(made, first, new)


def _pieces(tokenizer: Any, token: str) -> tuple[int, ...]:
    ids = tokenizer(token, add_special_tokens=False).input_ids
    return tuple(id for id in ids if id != tokenizer.unk_token_id)
