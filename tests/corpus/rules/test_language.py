"""Languages by the whole text."""

from __future__ import annotations

import pytest

from hf_align.corpus.document import Document
from hf_align.corpus.rules.language import language

TEXTS = {
    "en": "The train leaves the station at nine in the morning.",
    "de": "Der Zug verlässt den Bahnhof um neun Uhr am Morgen.",
    "fr": "Le train quitte la gare à neuf heures du matin.",
    "es": "El tren sale de la estación a las nueve de la mañana.",
    "zh": "火车早上九点从车站出发，请不要迟到。",
}


@pytest.mark.parametrize("code", TEXTS)
def test_five_languages_with_a_high_score(code: str) -> None:
    verdict = language(Document("d", TEXTS[code]))
    assert verdict.keep and verdict.columns["language"] == code
    assert verdict.columns["language_score"] > 0.8


def test_the_whole_text_counts_and_not_its_beginning() -> None:
    text = " ".join([TEXTS["en"]] * 3 + [TEXTS["de"]] * 20)
    assert language(Document("d", text)).columns["language"] == "de"


@pytest.mark.parametrize("text", ["", "12345 67890", "--- *** ---"])
def test_what_has_no_language_is_undetermined(text: str) -> None:
    verdict = language(Document("d", text))
    assert (verdict.keep, verdict.reason, verdict.columns["language"]) == (False, "language_score", "und")


def test_other_languages_go_by_name() -> None:
    verdict = language(Document("d", TEXTS["de"]), languages=["en", "fr"])
    assert (verdict.keep, verdict.reason) == (False, "language_de")
    assert language(Document("d", TEXTS["fr"]), languages=["en", "fr"]).keep
