"""A reward that can be checked: how much of an order an answer has got right.

For rows with the right answer in the column ``output``, as in ``data/orders_en.jsonl``:
``reward_functions: recipes/best_of_n/orders.py:order_score``.
"""

from __future__ import annotations

import json
from typing import Any

FIELDS = ("item", "quantity", "city", "date")
MENTIONED = 0.5
"""What a value counts that the answer has somewhere, but not in its field."""
PENALTY = 0.25
"""Off the score of an answer that is not the order alone."""


def order_score(prompts: list[str], completions: list[str], rows: list[dict[str, Any]]) -> list[float]:
    """From 0 to 1 for each completion: the share of the order's fields that are right, in the right form."""
    return [_score(text, json.loads(row["output"])) for text, row in zip(completions, rows, strict=True)]


def _score(text: str, order: dict[str, Any]) -> float:
    answer, alone = _object_in(text)
    credits = [
        1.0 if answer.get(field) == order[field] else MENTIONED * (str(order[field]) in text)
        for field in FIELDS
    ]
    score = sum(credits) / len(FIELDS)
    return score if alone and set(answer) <= set(FIELDS) else max(0.0, score - PENALTY)


def _object_in(text: str) -> tuple[dict[str, Any], bool]:
    """The JSON object that begins at the first brace, or an empty one, and whether it is all there is."""
    start = text.find("{")
    if start < 0:
        return {}, False
    try:
        found, end = json.JSONDecoder().raw_decode(text, start)
    except ValueError:
        return {}, False
    return found, not (text[:start] + text[end:]).strip()
