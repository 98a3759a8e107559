"""What a reader yields, and the words for what is wrong with a row."""

from __future__ import annotations

import pytest

from hf_align.data.reading.raw import MalformedRow, RawRow, kind_of, printable, row_from_value


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({}, "an object"),
        ([], "a list"),
        ("x", "a string"),
        (True, "true or false"),
        (1, "a number"),
        (1.5, "a number"),
        (None, "null"),
        (b"x", "a value of type bytes"),
    ],
)
def test_kinds_in_words(value: object, words: str) -> None:
    assert kind_of(value) == words
    if value != {}:
        assert row_from_value("p", value).problem == f"expected an object with named columns, found {words}"


def test_an_object_is_a_row() -> None:
    assert row_from_value("p:1", {"a": 1}) == RawRow("p:1", {"a": 1})


def test_half_a_character_can_be_printed() -> None:
    assert printable("a\ud800é") == "a\\ud800é"
    assert MalformedRow("reason", "kind").kind == "kind" and MalformedRow("reason").kind == ""
