"""A reward that can be checked: whether an answer says the fact that was asked for, and not the whole record.

For rows of data/pairs_en.jsonl, whose good answers begin with that fact: ``reward_functions:
recipes/grpo/facts.py:right``. The highest score is 1.
"""

from __future__ import annotations

import re
from typing import Any

COPIED = 0.6
"""An answer that repeats more than this share of the words of the question gets nothing."""
_WORD = re.compile(r"\w+(?::\w+)*")


def right(prompts: list[str], completions: list[str], rows: list[dict[str, Any]]) -> list[float]:
    """1 for a completion that has every word of the fact and leaves most of the question out, else 0."""
    return [float(_is_right(text, row)) for text, row in zip(completions, rows, strict=True)]


def _is_right(text: str, row: dict[str, Any]) -> bool:
    question, said = _words(row["prompt"][-1]["content"]), _words(text)
    return fact(row) <= said and len(question & said) <= COPIED * len(question)


def fact(row: dict[str, Any]) -> set[str]:
    """The words of the good answer's first sentence that stand in the prompt with a capital or a digit; where
    there are none, its last word."""
    first = re.split(r"(?<=[.!?])\s", row["chosen"][-1]["content"], maxsplit=1)[0]
    asked = {word for turn in row["prompt"] for word in _WORD.findall(turn["content"])}
    found = _WORD.findall(first)
    named = {word.lower() for word in found[1:] if word in asked and (word[0].isdigit() or word[0].isupper())}
    return named or {found[-1].lower()}


def _words(text: str) -> set[str]:
    return {word.lower() for word in _WORD.findall(text)}
