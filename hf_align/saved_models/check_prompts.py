"""Prompts on which two models are compared: rows of the run, and a few sentences in its chat template."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from hf_align.errors import UserError
from hf_align.sampling.options import chat_prompt_ids

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ROWS = 8
LONGEST = 256
"""Tokens of a prompt at most; a longer one is cut in front."""

SENTENCES = (
    "What is the capital of France, and which river runs through it?",
    "Write a Python function that returns the sum of two numbers.",
    "请用一句话介绍一下你自己。",
    "Three lamps cost 42 euros. How much do seven lamps cost?",
)


def check_prompts(
    tokenizer: PreTrainedTokenizerBase,
    generations: Iterable[Any] = (),
    *,
    limit: int | None = None,
) -> list[list[int]]:
    """Token ids of prompts. ``generations``: entries of a run's record, prompts with their answers.

    ``limit``: the context of the model in tokens.
    """
    most = LONGEST if limit is None else min(LONGEST, limit)
    texts = [
        entry["prompt"] + str(entry.get("reference") or "")
        for entry in generations
        if isinstance(entry, Mapping) and isinstance(entry.get("prompt"), str)
    ][:ROWS]
    # A recorded prompt holds its special tokens already.
    found = [list(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts]
    for sentence in SENTENCES:
        found.append(_in_template(tokenizer, sentence) or list(tokenizer(sentence)["input_ids"]))
    return [ids[-most:] for ids in found if ids]


def _in_template(tokenizer: PreTrainedTokenizerBase, sentence: str) -> list[int]:
    if not tokenizer.chat_template:
        return []
    try:
        return chat_prompt_ids(tokenizer, [{"role": "user", "content": sentence}])
    except UserError:  # a template may want another form of conversation; the plain sentence will do
        return []
