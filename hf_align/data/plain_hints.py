"""What the first rows of a source say about plain prompts: which are joined with their answers as they stand.

Two things that cost a run without a sign are told: pairs of strings where the tokenizer has a chat template,
which none of them gets, and prompts whose closing white space becomes part of the answer's first token, so
that other programs, which ask the prompt with it, ask with tokens that were not trained.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING, Any

from hf_align.data.pipeline import DataSource, open_source
from hf_align.data.reading.raw import MalformedRow, tried
from hf_align.types import Comparison, Example, LabelledAnswer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

_ROWS_LOOKED_AT = 50


def tell_of_plain_prompts(source: DataSource) -> None:
    """Warn where plain prompts of a source meet a chat template, or tokenise differently when asked.

    Errors: ``UserError`` as ``open_source``.
    """
    most = (
        _ROWS_LOOKED_AT if source.dataset.max_rows is None else min(source.dataset.max_rows, _ROWS_LOOKED_AT)
    )
    first = replace(source, dataset=replace(source.dataset, max_rows=most))
    job, chunks = open_source(first, streaming=source.data.streaming)
    rows = chain.from_iterable(chunks)
    examples = (tried(job.convert, row) for row in rows)
    pairs = [pair for example in examples if (pair := _plain_pair(example)) is not None]
    if not pairs:
        return
    name, tokenizer = source.dataset.path, source.encoder.tokenizer
    if tokenizer.chat_template:
        logger.warning(
            "%s: prompts and answers are plain strings, which are joined without the tokenizer's "
            "chat template. To make conversations of them, write turns, or `columns: {instruction: prompt, "
            "output: completion}` (compared answers: `columns: {instruction: prompt}`).",
            name,
        )
    split = [prompt for prompt, answer in pairs if _joins(tokenizer, prompt, answer)]
    if split:
        logger.warning(
            "%s: %d of the first %d prompts end with white space that becomes part of the answer's first "
            "token (%r). Here they are trained and asked without it; elsewhere leave it out as well, or move "
            "it to the beginning of the answers.",
            *(name, len(split), len(pairs), split[0][-20:]),
        )


def _plain_pair(example: Any) -> tuple[str, str] | None:
    """(prompt, an answer) of an example without turns; None of any other."""
    if isinstance(example, MalformedRow):
        return None
    if isinstance(example, Example) and example.prompt is not None:
        return example.prompt, example.completion or "a"
    if isinstance(example, LabelledAnswer) and isinstance(example.prompt, str) and example.prompt:
        return example.prompt, example.answer
    if isinstance(example, Comparison) and isinstance(example.prompt, str) and example.prompt:
        return example.prompt, example.answers[0]
    return None


def _joins(tokenizer: PreTrainedTokenizerBase, prompt: str, answer: str) -> bool:
    """Whether the prompt's closing white space is no token of its own in front of the answer."""
    if prompt == prompt.rstrip():
        return False
    texts = (prompt, prompt + answer)
    alone, joined = (tokenizer(text, add_special_tokens=False, verbose=False).input_ids for text in texts)
    return list(joined[: len(alone)]) != list(alone)
