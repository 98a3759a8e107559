"""Plain rows, which no template touches: a prompt with its completion, or a text.

The tokens are those of the text as it stands, with the BOS that the tokenizer adds by itself (once, even
where the text already begins with it). Whatever the tokenizer would add at the end is left out: whether the
row ends with EOS is the recipe's decision (``add_eos``).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hf_align.data.masking import mask_of_spans, matching_spans
from hf_align.data.tokenizing import Tokens, tokenize
from hf_align.types import Example

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_WORD = "a"
"""How an answer may begin."""


def plain_text(example: Example) -> str:
    """The whole text of a plain example."""
    return example.text if example.text is not None else (example.prompt or "") + (example.completion or "")


def asked_text(tokenizer: PreTrainedTokenizerBase, prompt: str) -> str:
    """The part of a plain prompt whose tokens are those that training rows have in front of the answer.

    Closing white space is left out where the tokenizer makes it a part of the next word: "Answer: yes" is
    trained as "Answer", ":" and " yes", so that "Answer: " with a blank of its own would be asked as
    something the model has not seen. A prompt of which no part has such tokens is asked whole.
    """
    shortest = len(prompt.rstrip())
    if shortest in (0, len(prompt)):
        return prompt
    parts = [prompt[:end] for end in range(len(prompt), shortest - 1, -1)]
    joined, *alone = tokenize(tokenizer, [prompt + _WORD, *parts], add_special_tokens=False)
    fitting = (
        part
        for part, tokens in zip(parts, alone, strict=True)
        if np.array_equal(joined.ids[: len(tokens.ids)], tokens.ids)
    )
    return next(fitting, prompt)


def opening(tokens: Tokens, bos: int | None) -> tuple[npt.NDArray[np.int32], int, int]:
    """(ids that the tokenizer puts first, index of the text's first token, index after its last)."""
    own = np.flatnonzero(~tokens.added)
    if not len(own):
        return tokens.ids[:0], 0, 0
    start, stop = int(own[0]), int(own[-1]) + 1
    head = tokens.ids[:start]
    if len(head) and head[-1] == bos == tokens.ids[start]:
        head = head[:-1]
    return head, start, stop


def plain_row(
    example: Example,
    tokens: Tokens,
    is_special: npt.NDArray[np.bool_],
    *,
    bos: int | None,
    eos: int | None,
    all_targets: bool,
    patterns: Sequence[re.Pattern[str]] = (),
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.bool_]]:
    """(ids, target mask) of a plain row; ``eos`` is appended unless it is None or already there.

    Targets: the completion, or with ``all_targets`` and for a text everything, and the closing EOS. With
    ``patterns``: what they match of the completion or the text, and EOS where a match reaches the end.
    """
    head, start, stop = opening(tokens, bos)
    ids = tokens.ids[start:stop]
    ended = True
    if (all_targets or example.text is not None) and not patterns:
        head_mask, mask = np.ones(len(head), dtype=bool), np.ones(len(ids), dtype=bool)
    else:
        text = plain_text(example)
        spans = [(len(example.prompt or ""), len(text))]
        if patterns:
            spans = matching_spans(text, spans, patterns)
            ended = any(end == len(text) for _, end in spans)
        head_mask = np.zeros(len(head), dtype=bool)
        mask = mask_of_spans(tokens.offsets[start:stop], is_special[start:stop], spans)
    if eos is not None:
        if not len(ids) or ids[-1] != eos:
            ids, mask = np.append(ids, np.int32(eos)), np.append(mask, ended)
        mask[-1] |= ended
    return np.concatenate((head, ids)).astype(np.int32), np.concatenate((head_mask, mask))
