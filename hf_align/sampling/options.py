"""What is needed to let a model write: how tokens are chosen, the prompt of a conversation, how much fits.

The engine is in ``sampling``, for batches of prompts, and in ``streaming``, for one answer that is shown
while it is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hf_align.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

UNLIMITED = 10**9
"""Tokenizers without a limit give an absurdly large one."""


_CHANGE_THE_CHOICE = (
    "repetition_penalty",
    "no_repeat_ngram_size",
    "bad_words_ids",
    "suppress_tokens",
    "begin_suppress_tokens",
    "sequence_bias",
    "min_p",
    "typical_p",
    "min_length",
    "min_new_tokens",
    "num_beams",
)


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen: the likeliest one at temperature 0, else drawn from the ``top_p`` nucleus.

    ``top_k``: of the likeliest tokens only; 0 for all.
    """

    max_new_tokens: int = 512
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0


def chat_prompt_ids(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[dict[str, Any]],
    tools: Sequence[dict[str, Any]] = (),
) -> list[int]:
    """The ids of a conversation as the chat template writes it, up to where the model is to answer.

    ``tools``: what it may call, as JSON schemas. Raises UserError where the template refuses it.
    """
    try:
        rendered = tokenizer.apply_chat_template(
            list(messages),
            tools=list(tools) or None,
            tokenize=True,
            add_generation_prompt=True,
            return_dict=True,
        )
    except Exception as error:  # a template is a program of its own, and may fail in any way
        detail = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"the chat template refuses the conversation: {detail}") from error
    return [int(token) for token in rendered["input_ids"]]


def settings_not_followed(model: Any) -> dict[str, Any]:
    """What the model's own generation settings ask for and is not done here: tokens are chosen by
    :class:`Sampling` alone."""
    own = getattr(model, "generation_config", None)
    given = {} if own is None else own.to_diff_dict()
    return {key: given[key] for key in _CHANGE_THE_CHOICE if given.get(key) is not None}


def context_length(
    model: Any, tokenizer: PreTrainedTokenizerBase, *, virtual_tokens: int | None = None
) -> int | None:
    """The most tokens, prompt and answer together, that the model was made for; None where it is not said.

    The virtual tokens before each row take positions as well; ``virtual_tokens``: how many there are, by
    default those of ``model``.
    """
    from hf_align.modeling.positions import count_positions
    from hf_align.modeling.virtual_tokens import count_virtual_tokens

    limit = count_positions(model) or getattr(model.config.get_text_config(), "max_seq_len", None)
    if not (isinstance(limit, int) and limit > 0):
        limit = tokenizer.model_max_length if 0 < tokenizer.model_max_length < UNLIMITED else None
    if limit is None:
        return None
    return max(0, limit - (count_virtual_tokens(model) if virtual_tokens is None else virtual_tokens))
