"""Gopher's rules by hand arithmetic, and what they must not depend on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_align.corpus import gopher_quality, gopher_repetition
from hf_align.corpus.document import Document
from hf_align.corpus.rules.gopher import (
    duplicate_grams,
    duplicates,
    quality,
    repetition,
    top_gram,
    word_codes,
)

PROSE = "The cat sat on the mat and that was all that it ever wanted to be, with a bowl of milk beside it. "


def test_the_most_frequent_bigram_by_hand() -> None:
    words = "a b a b a b a b c d".split()
    # "a b" has 3 characters and occurs 4 times: 12 of 19.
    assert top_gram(words, word_codes(words), 2) == 12
    values = repetition(Document("d", "a b a b a b a b c d")).values
    assert values["top_2_gram"] == pytest.approx(12 / 19)


def test_n_grams_that_occur_once_repeat_nothing() -> None:
    assert gopher_repetition("one two three four five six seven eight") == []


def test_repeated_lines_count_from_the_second_on() -> None:
    assert duplicates(["aa", "b", "aa", "aa"]) == (2, 4)
    found = {reason.rule: reason for reason in gopher_repetition("hello you\nhello you\nother")}
    assert found["duplicate_lines"].value == pytest.approx(1 / 3)
    assert found["duplicate_lines"].threshold == 0.3


def test_repeated_five_grams_are_passed_as_a_whole() -> None:
    words = ("a b c d e " * 2).split()
    assert duplicate_grams(words, word_codes(words), 5) == 5


def test_each_rule_of_quality_with_its_limit() -> None:
    assert gopher_quality(PROSE * 3) == []
    few = {reason.rule: (reason.value, reason.threshold) for reason in gopher_quality("two words")}
    assert few["words"] == (2, 50) and few["stop_words"] == (0, 2)
    marks = {reason.rule for reason in gopher_quality(PROSE * 3 + "# " * 30)}
    assert marks == {"hash_ratio"}
    bullets = "\n".join(f"- {PROSE}" for _ in range(4))
    assert {reason.rule for reason in gopher_quality(bullets)} == {"bullet_lines"}
    numbers = {reason.rule for reason in gopher_quality(PROSE + "1234 " * 60)}
    assert "alphabetic_words" in numbers


def test_other_thresholds_and_unknown_ones() -> None:
    assert gopher_quality("the whole story of them", min_words=5) == []
    with pytest.raises(TypeError, match="unknown thresholds: least_words"):
        gopher_quality("x", least_words=3)


def test_chinese_is_counted_in_characters_and_needs_no_english() -> None:
    text = "火车早上九点从北京出发，请大家带好自己的东西，不要迟到。" * 4
    assert gopher_quality(text, max_words=1000) == []
    assert quality(Document("d", text)).values["words"] > 80


@given(st.lists(st.sampled_from("the of dog runs 12 ## … and\n".split(" ")), max_size=80).map(" ".join))
def test_white_space_at_the_ends_changes_nothing(text: str) -> None:
    one, other = gopher_quality(text), gopher_quality(f"  {text}\n\n")
    assert one == other
