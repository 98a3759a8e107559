"""Rules that FineWeb adds (Penedo et al. 2024, arXiv 2406.17557, section 3.6), as in its paper and as in the
code that made it, which differ; and rules on single lines of DCLM (Li et al. 2024, arXiv 2406.11794).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping

from hf_align.corpus.document import Document, Rule, Verdict, judge
from hf_align.corpus.rules.gopher import duplicates
from hf_align.corpus.text_units import TERMINAL, edit_lines, words

PRESETS: dict[str, dict[str, float]] = {
    "paper": {
        "min_terminal_lines": 0.12,
        "max_duplicate_line_characters": 0.1,
        "max_short_lines": 0.67,
        "short_line_characters": 29,
        "max_lines_per_word": 1e9,
    },
    "code": {
        "min_terminal_lines": 0.12,
        "max_duplicate_line_characters": 0.01,
        "max_short_lines": 0.67,
        "short_line_characters": 30,
        "max_lines_per_word": 0.3,
    },
}
"""``paper``: lines of fewer than 30 characters are short, and 10 % of the characters may be in repeated
lines. ``code``: 30 characters are still short, 1 % may be repeated, and there is a limit on line breaks per
word."""

LINES: dict[str, float] = {
    "max_uppercase_ratio": 0.5,
    "min_words_per_line": 2,
    "max_removed_words": 0.05,
}
_NUMERIC = re.compile(r"[\d\W_]+")
_COUNTER = re.compile(
    r"\W*\d[\d.,]*\s*[kmb]?\s*(likes?|shares?|comments?|replies|reply|retweets?|reposts?|quotes?|bookmarks?|"
    r"upvotes?|downvotes?|downloads?|views?|followers?)\W*",
    re.IGNORECASE,
)


def fineweb(document: Document, thresholds: Mapping[str, float] = PRESETS["paper"]) -> Verdict:
    """Lines that end as prose does, repeated lines, short lines, line breaks per word."""
    return judge(_rules(document, thresholds))


def _rules(document: Document, limits: Mapping[str, float]) -> Iterator[Rule]:
    lines = document.lines
    count = max(1, len(lines))
    ended = sum(line.endswith(TERMINAL) for line in lines)
    yield Rule("terminal_lines", ended / count, low=limits["min_terminal_lines"], strict=True)
    _, characters = duplicates(lines)
    length = max(1, sum(map(len, lines)))
    limit = limits["max_duplicate_line_characters"]
    yield Rule("duplicate_line_characters", characters / length, high=limit, strict=True)
    short = sum(len(line) <= limits["short_line_characters"] for line in lines)
    yield Rule("short_lines", short / count, high=limits["max_short_lines"], strict=True)
    breaks = document.text.count("\n") / max(1, len(document.words))
    yield Rule("lines_per_word", breaks, high=limits["max_lines_per_word"])


def line_rules(document: Document, thresholds: Mapping[str, float] = LINES) -> Verdict:
    """Drops lines in capitals, of numbers, of counters ("3 likes") and of one word; and the document where
    more than ``max_removed_words`` of its words were in them."""
    edits: Counter[str] = Counter()
    removed = 0

    def edit(line: str) -> str | None:
        nonlocal removed
        found = words(line)
        fault = _line_fault(line, len(found), thresholds)
        if not fault:
            return line
        edits[fault] += 1
        removed += len(found)
        return None

    text = edit_lines(document.text, edit)
    share = removed / max(1, len(document.words))
    verdict = judge([Rule("removed_words", share, high=thresholds["max_removed_words"])])
    if not verdict.keep:
        return verdict
    return Verdict(text=text if edits else None, values=verdict.values, edits=dict(edits))


def _line_fault(line: str, count: int, limits: Mapping[str, float]) -> str:
    if _NUMERIC.fullmatch(line):
        return "numeric_lines"
    if _COUNTER.fullmatch(line):
        return "counter_lines"
    if count < limits["min_words_per_line"]:
        return "lines_of_a_word"
    letters = sum(map(str.isalpha, line))
    capitals = sum(map(str.isupper, line))
    return "uppercase_lines" if capitals > limits["max_uppercase_ratio"] * max(1, letters) else ""
