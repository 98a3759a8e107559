"""Quality and repetition rules of Gopher (Rae et al. 2021, arXiv 2112.11446, appendix A.1.1).

What is compared with is in ``QUALITY`` and ``REPETITION``. Two things differ on purpose from implementations
that treat English alone: words in scripts without spaces are characters, for which the rules on the length of
words and on English stop words say nothing; and the most frequent n-gram has to occur twice, since a short
text whose n-grams all differ repeats nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from hf_align.corpus.document import Document, Rule, Verdict, judge
from hf_align.corpus.text_units import LANGUAGES_WITHOUT_SPACES, spaceless_share

QUALITY: dict[str, float] = {
    "min_words": 50,
    "max_words": 100_000,
    "min_mean_word_length": 3,
    "max_mean_word_length": 10,
    "max_hash_ratio": 0.1,
    "max_ellipsis_ratio": 0.1,
    "max_bullet_lines": 0.9,
    "max_ellipsis_lines": 0.3,
    "min_alphabetic_words": 0.8,
    "min_stop_words": 2,
}
REPETITION: dict[str, float] = {
    "max_duplicate_lines": 0.3,
    "max_duplicate_paragraphs": 0.3,
    "max_duplicate_line_characters": 0.2,
    "max_duplicate_paragraph_characters": 0.2,
    "max_top_2_gram": 0.2,
    "max_top_3_gram": 0.18,
    "max_top_4_gram": 0.16,
    "max_duplicate_5_grams": 0.15,
    "max_duplicate_6_grams": 0.14,
    "max_duplicate_7_grams": 0.13,
    "max_duplicate_8_grams": 0.12,
    "max_duplicate_9_grams": 0.11,
    "max_duplicate_10_grams": 0.1,
}
STOP_WORDS = frozenset({"the", "be", "to", "of", "and", "that", "have", "with"})
_BULLETS = ("•", "‣", "●", "-", "*")
_ELLIPSES = ("...", "…")
_MOSTLY_SPACELESS = 0.3
_FACTOR = np.uint64(0x9E3779B97F4A7C15)


def quality(document: Document, thresholds: Mapping[str, float] = QUALITY) -> Verdict:
    """Numbers of words, their length, symbols, bullets and ellipses, words with letters, stop words."""
    return judge(_quality_rules(document, thresholds))


def _quality_rules(document: Document, limits: Mapping[str, float]) -> Iterator[Rule]:
    words, lines, text = document.words, document.lines, document.text
    count, rows = max(1, len(words)), max(1, len(lines))
    yield Rule("words", len(words), limits["min_words"], limits["max_words"])
    if not _without_spaces(document):
        yield Rule(
            "mean_word_length",
            sum(map(len, words)) / count,
            limits["min_mean_word_length"],
            limits["max_mean_word_length"],
        )
    yield Rule("hash_ratio", text.count("#") / count, high=limits["max_hash_ratio"])
    ellipses = sum(text.count(mark) for mark in _ELLIPSES)
    yield Rule("ellipsis_ratio", ellipses / count, high=limits["max_ellipsis_ratio"])
    bullets = sum(line.startswith(_BULLETS) for line in lines)
    yield Rule("bullet_lines", bullets / rows, high=limits["max_bullet_lines"])
    trailing = sum(line.endswith(_ELLIPSES) for line in lines)
    yield Rule("ellipsis_lines", trailing / rows, high=limits["max_ellipsis_lines"])
    alphabetic = sum(any(map(str.isalpha, word)) for word in words)
    yield Rule("alphabetic_words", alphabetic / count, low=limits["min_alphabetic_words"])
    if document.language in (None, "en") and not _without_spaces(document):
        yield Rule("stop_words", len(STOP_WORDS.intersection(words)), low=limits["min_stop_words"])


def _without_spaces(document: Document) -> bool:
    if document.language is not None:
        return document.language in LANGUAGES_WITHOUT_SPACES
    return spaceless_share(document.text) > _MOSTLY_SPACELESS


def repetition(document: Document, thresholds: Mapping[str, float] = REPETITION) -> Verdict:
    """Shares of lines, paragraphs and n-grams of words that were there before in the same document."""
    return judge(_repetition_rules(document, thresholds))


def _repetition_rules(document: Document, limits: Mapping[str, float]) -> Iterator[Rule]:
    length = max(1, len(document.text))
    for name, units in (("line", document.lines), ("paragraph", document.paragraphs)):
        again, characters = duplicates(units)
        share = again / max(1, len(units))
        yield Rule(f"duplicate_{name}s", share, high=limits[f"max_duplicate_{name}s"])
        limit = limits[f"max_duplicate_{name}_characters"]
        yield Rule(f"duplicate_{name}_characters", characters / length, high=limit)
    words = document.words
    codes = word_codes(words)
    for size in (2, 3, 4):
        characters = top_gram(words, codes, size)
        yield Rule(f"top_{size}_gram", characters / length, high=limits[f"max_top_{size}_gram"])
    for size in range(5, 11):
        characters = duplicate_grams(words, codes, size)
        limit = limits[f"max_duplicate_{size}_grams"]
        yield Rule(f"duplicate_{size}_grams", characters / length, high=limit)


def duplicates(units: Sequence[str]) -> tuple[int, int]:
    """How many units were there before, and their characters."""
    seen: set[str] = set()
    count = characters = 0
    for unit in units:
        if unit in seen:
            count, characters = count + 1, characters + len(unit)
        seen.add(unit)
    return count, characters


def word_codes(words: Sequence[str]) -> np.ndarray:
    """A number for each word, (W,) of uint64, the same for the same word."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(word, len(numbers) + 1) for word in words], dtype=np.uint64)


def gram_codes(codes: np.ndarray, size: int) -> np.ndarray:
    """A number for each n-gram of ``size`` words, (W - size + 1,); equal for equal n-grams, and for others
    by chance (2^-64)."""
    places = len(codes) - size + 1
    if places < 1:
        return np.zeros(0, dtype=np.uint64)
    mixed = np.zeros(places, dtype=np.uint64)
    for offset in range(size):
        mixed = (mixed ^ codes[offset : offset + places]) * _FACTOR
        mixed ^= mixed >> np.uint64(29)
    return mixed


def top_gram(words: Sequence[str], codes: np.ndarray, size: int) -> int:
    """Characters of the most frequent n-gram, spaces between its words included, times how often it occurs;
    0 where none occurs twice. Of several, the first one counts."""
    grams = gram_codes(codes, size)
    if not len(grams):
        return 0
    _, first, counts = np.unique(grams, return_index=True, return_counts=True)
    most = int(counts.max())
    if most < 2:
        return 0
    start = int(first[counts == most].min())
    return most * len(" ".join(words[start : start + size]))


def duplicate_grams(words: Sequence[str], codes: np.ndarray, size: int) -> int:
    """Characters of the words, without spaces, in n-grams that were there before; a repeated n-gram is
    passed as a whole, so that no word counts twice."""
    grams = gram_codes(codes, size)
    if len(np.unique(grams)) == len(grams):
        return 0
    seen: set[int] = set()
    characters = place = 0
    listed = grams.tolist()
    while place < len(listed):
        if listed[place] in seen:
            characters += sum(map(len, words[place : place + size]))
            place += size
        else:
            seen.add(listed[place])
            place += 1
    return characters
