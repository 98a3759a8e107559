"""Instructions that a program can verify."""

from __future__ import annotations

import pytest

from hf_align.config.group import KeyProblem
from hf_align.errors import UserError
from hf_align.evaluation.instruction_checks import passed, read_checks
from hf_align.evaluation.recipe_entries import CHECKS, GenerationTask


@pytest.mark.parametrize(
    ("checks", "right", "wrong"),
    [
        ({"max_words": 3}, "one two  three", "one two three four"),
        ({"min_words": 2}, "one two", "one"),
        ({"max_characters": 2}, "é!", "é! "),
        ({"max_lines": 1}, "\none line\n", "two\nlines"),
        ({"must_contain": "Oslo"}, "to OSLO", "to Rome"),
        ({"must_contain": ["Oslo", "lamp"]}, "lamps to Oslo", "chairs to Oslo"),
        ({"must_not_contain": ["sorry"]}, "Here it is.", "Sorry, no."),
        ({"starts_with": "Dear"}, " Dear friend", "My Dear"),
        ({"ends_with": "."}, "Done.\n", "Done"),
        ({"regex": r"^\d+ lamps$"}, "12 lamps", "twelve lamps"),
        ({"valid_json": True}, '{"a": [1, null]}', "{'a': 1}"),
        ({"valid_json": True}, "null", ""),
        ({"valid_json": False}, "words", "12"),
        ({"json_keys": ["item", "city"]}, '{"city": 1, "item": 2, "x": 3}', '{"city": 1}'),
        ({"json_keys": "item"}, '{"item": null}', '["item"]'),
    ],
)
def test_what_passes_and_what_does_not(checks, right, wrong):
    read = read_checks("here", checks)
    (name,) = checks
    assert passed(read, right, stopped=True) == {name: True}
    assert passed(read, wrong, stopped=True) == {name: False}


def test_ending_by_itself():
    checks = read_checks("here", {"stops": True, "max_words": 9})
    assert passed(checks, "x", stopped=True) == {"stops": True, "max_words": True}
    assert passed(checks, "x", stopped=False) == {"stops": False, "max_words": True}


def test_tables_hold_checks_as_json():
    assert read_checks("here", '{"max_words": 3}') == {"max_words": 3}
    assert read_checks("here", "") == read_checks("here", None) == {}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"max_word": 3}, "f:1: checks: unknown check 'max_word'.* Did you mean 'max_words'"),
        ({"max_words": "3"}, "max_words: found '3', expected a whole number"),
        ({"max_words": True}, "max_words: found True, expected a whole number"),
        ({"stops": 1}, "stops: found 1, expected true or false"),
        ({"must_contain": [1]}, "expected a text or a list of texts"),
        ({"regex": "("}, r"regex: '\(' is no regular expression"),
        ("[1]", "expected a mapping from checks"),
        ("{", "expected a mapping from checks"),
    ],
)
def test_wrong_checks_are_named(given, words):
    with pytest.raises(UserError, match=words):
        read_checks("f:1", given)


def test_a_recipe_knows_their_names():
    assert GenerationTask("x", checks=dict.fromkeys(CHECKS, 1)).checks
    with pytest.raises(KeyProblem, match="Did you mean 'max_words'"):
        GenerationTask("x", checks={"max_wrds": 1})


@pytest.mark.parametrize("reply", ["[" * 100_000, "NaN", '{"item": Infinity}', "[-Infinity]"])
def test_what_python_reads_and_json_is_not(reply):
    checks = read_checks("here", {"valid_json": True, "json_keys": ["item"]})
    assert passed(checks, reply, stopped=True) == {"valid_json": False, "json_keys": False}
