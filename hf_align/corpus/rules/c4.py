"""Rules of C4 (Raffel et al. 2020, arXiv 1910.10683, section 2.2), which edit lines and remove documents.

FineWeb found that the rule on the ends of lines alone costs 30 % of the tokens and applies all others
(arXiv 2406.17557, section 3.5); ``terminal_punctuation`` is 0 by default for that reason. The list of bad
words is not part of this: it cannot be shipped, and a recipe can name its own.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Mapping

from hf_align.corpus.document import Document, Rule, Verdict, judge
from hf_align.corpus.text_units import edit_lines, sentences, words

C4: dict[str, float] = {
    "terminal_punctuation": 0,
    "max_word_characters": 1000,
    "min_words_per_line": 3,
    "min_sentences": 5,
    "max_curly_brackets": 0,
    "max_lorem_ipsum": 0,
}
_CITATION = re.compile(r"\[(?:\d+|edit|citation needed)\]", re.IGNORECASE)
_POLICY = (
    "terms of use",
    "privacy policy",
    "cookie policy",
    "uses cookies",
    "use of cookies",
    "use cookies",
)
_ENDS = tuple(".?!\"'”’。！？」』")


def c4(document: Document, thresholds: Mapping[str, float] = C4) -> Verdict:
    """Drops lines without a sentence, with code or of a policy; then documents with too little left."""
    edits: Counter[str] = Counter()

    def edit(line: str) -> str | None:
        cleaned = _CITATION.sub("", line).strip()
        edits["citations"] += cleaned != line
        fault = _fault(cleaned, thresholds)
        edits[fault] += 1
        return None if fault else cleaned

    text = edit_lines(document.text, edit)
    lowered = text.lower()
    verdict = judge(
        [
            Rule("lorem_ipsum", lowered.count("lorem ipsum"), high=thresholds["max_lorem_ipsum"]),
            Rule("curly_brackets", text.count("{"), high=thresholds["max_curly_brackets"]),
            Rule("sentences", sentences(text), low=thresholds["min_sentences"]),
        ]
    )
    found = {name: count for name, count in edits.items() if name and count}
    return dataclasses.replace(verdict, text=text if found else None, edits=found)


def _fault(line: str, limits: Mapping[str, float]) -> str:
    """Why a line goes, or an empty text."""
    if any(len(word) > limits["max_word_characters"] for word in line.split()):
        return "lines_with_a_long_word"
    if limits["terminal_punctuation"] and (not line.endswith(_ENDS) or line.endswith("...")):
        return "lines_without_an_end"
    if len(words(line)) < limits["min_words_per_line"]:
        return "short_lines"
    lowered = line.lower()
    if "javascript" in lowered:
        return "javascript_lines"
    return "policy_lines" if any(phrase in lowered for phrase in _POLICY) else ""
