"""A second opinion on an answer: the words that it shares with the answer that the data hold.

For rows with a reference answer, and for the watch of PPO, which compares it with the reward that is trained
on: ``watch_reward_functions: recipes/ppo/overlap.py:overlap``. The highest score is 1.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Any


def overlap(prompts: list[str], completions: list[str], rows: list[dict[str, Any]]) -> list[float]:
    """F1 of words for each completion: their harmonic mean of precision and recall against the reference.

    Neither a longer answer nor a shorter one gains by its length.
    """
    return [_f1(_words(text), _words(_reference(row))) for text, row in zip(completions, rows, strict=True)]


def _reference(row: dict[str, Any]) -> str:
    """The chosen answer of a pair: a text, or the last of its messages."""
    answer = row["chosen"]
    return str(answer if isinstance(answer, str) else answer[-1]["content"])


def _words(text: str) -> Counter[str]:
    return Counter(re.findall(r"\w+", text.casefold()))


def _f1(found: Counter[str], wanted: Counter[str]) -> float:
    shared = (found & wanted).total()
    return 2 * shared / (found.total() + wanted.total()) if shared else 0.0
