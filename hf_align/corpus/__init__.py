"""From raw text to a training set: documents are filtered, edited and deduplicated by a list of named steps.

The rules are functions of a text as well, each giving every rule that the text breaks with value and
threshold.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hf_align.corpus.document import Document, Reason, Verdict


def gopher_quality(text: str, **thresholds: float) -> list[Reason]:
    """The quality rules of Gopher (arXiv 2112.11446, A.1.1) that ``text`` breaks; ``thresholds`` replace
    those of ``rules.gopher.QUALITY``. Raises TypeError for one that is not there."""
    from hf_align.corpus.rules import gopher

    return _reasons(text, gopher.quality, gopher.QUALITY, thresholds)


def gopher_repetition(text: str, **thresholds: float) -> list[Reason]:
    """The same for Gopher's rules on repetition, with those of ``rules.gopher.REPETITION``."""
    from hf_align.corpus.rules import gopher

    return _reasons(text, gopher.repetition, gopher.REPETITION, thresholds)


def c4(text: str, **thresholds: float) -> list[Reason]:
    """The rules of C4 (arXiv 1910.10683) that remove a whole text, after its rules on lines."""
    from hf_align.corpus.rules import c4 as rules

    return _reasons(text, rules.c4, rules.C4, thresholds)


def fineweb(text: str, *, preset: str = "paper", **thresholds: float) -> list[Reason]:
    """The rules that FineWeb adds (arXiv 2406.17557), with the thresholds of its paper or of its ``code``."""
    from hf_align.corpus.rules import fineweb as rules

    return _reasons(text, rules.fineweb, rules.PRESETS[preset], thresholds)


def minhash_match_probability(similarity: float, *, bands: int, rows: int) -> float:
    """How likely two texts of that Jaccard similarity agree in at least one band: 1 - (1 - s^rows)^bands."""
    return 1.0 - (1.0 - similarity**rows) ** bands


def _reasons(
    text: str,
    rule: Callable[[Document, Mapping[str, float]], Verdict],
    defaults: Mapping[str, float],
    given: Mapping[str, float],
) -> list[Reason]:
    from hf_align.corpus.document import Document

    if unknown := set(given) - set(defaults):
        raise TypeError(f"unknown thresholds: {', '.join(sorted(unknown))}; there are {', '.join(defaults)}")
    return list(rule(Document("text", text), {**defaults, **given}).reasons)
