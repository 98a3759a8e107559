"""A reward that can be checked: answers that are short, end cleanly, and say something.

For any prompts: ``reward_functions: recipes/ppo/brevity.py:brevity``. The highest score is 1.
"""

from __future__ import annotations

from typing import Any

FEWEST, MOST = 3, 12
"""Words of an answer that gets the whole score."""
CLEAN_END = 0.5
"""What an answer keeps that does not end with a full stop, a question mark or an exclamation mark."""


def brevity(prompts: list[str], completions: list[str], rows: list[dict[str, Any]]) -> list[float]:
    """From 0 to 1 for each completion; beyond ``MOST`` words the score falls as 1 / words."""
    return [_score(text) for text in completions]


def _score(text: str) -> float:
    words = text.split()
    if len(words) < FEWEST:
        return 0.0
    length = min(1.0, MOST / len(words))
    return length * (1.0 if text.rstrip().endswith((".", "!", "?")) else CLEAN_END)
