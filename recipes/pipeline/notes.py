"""A reward that can be checked: whether an answer to a question about a note is given in the house style.

For rows with the good answer in the column ``chosen``, as in ``data/pairs_en.jsonl``:
``reward_functions: recipes/pipeline/notes.py:house_style``. The highest score is 1.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

ANSWERS, ENDS, KEEPS_TO_THE_NOTE = 0.4, 0.4, 0.2
"""What the three parts count: the first sentence, the last ones, and that there is nothing else."""
OTHER_NOTE = 0.5
"""What is left of the second part where the offer names another note than the question."""

_OFFER = re.compile(r"(?:^|\s)Anything else about (\w+ \d+)\? Just ask\.$")
# How the sentences of good answers begin.
_FORMS = re.compile(
    r"(?:The (?:parcel holds|driver is|subject is|teacher is|loan is|reader is|note on)|"
    r"A (?:ticket|late return) costs|"
    r"It (?:goes to|arrives on|costs|travels by|leaves at|leaves from|takes place in|begins at|is held on|"
    r"is due on|belongs on))\b"
)


def house_style(prompts: list[str], completions: list[str], rows: list[dict[str, Any]]) -> list[float]:
    """From 0 to 1 for each completion, see the parts above; partly right sentences count in part."""
    return [_score(text.strip(), _good(row)) for text, row in zip(completions, rows, strict=True)]


def _score(answer: str, good: str) -> float:
    offer, wanted = _OFFER.search(answer), _OFFER.search(good)
    ends = 0.0
    if offer is not None:
        ends = 1.0 if wanted is not None and offer[1] == wanted[1] else OTHER_NOTE
    sentences = _sentences(_OFFER.sub("", answer))
    first = _f1(sentences[0], _sentences(good)[0]) if sentences else 0.0
    kept = sum(_FORMS.match(sentence) is not None for sentence in sentences) / max(1, len(sentences))
    return ANSWERS * first + ENDS * ends + KEEPS_TO_THE_NOTE * kept


def _good(row: dict[str, Any]) -> str:
    """The good answer of a row: a text, or the last of its messages."""
    answer = row["chosen"]
    return str(answer if isinstance(answer, str) else answer[-1]["content"]).strip()


def _sentences(text: str) -> list[str]:
    return [part for part in re.split(r"(?<=[.!?])\s+", text.strip()) if part]


def _f1(found: str, wanted: str) -> float:
    """Harmonic mean of precision and recall over words; capital letters count, since prompts ask for them."""
    ours, theirs = Counter(re.findall(r"[\w:\"]+", found)), Counter(re.findall(r"[\w:\"]+", wanted))
    shared = (ours & theirs).total()
    return 2 * shared / (ours.total() + theirs.total()) if shared else 0.0
