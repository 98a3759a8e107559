"""What is declared of an option, and the words made of it: types, limits, values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import pytest

from hf_align.config.fields import (
    choices,
    describe_found,
    describe_type,
    entry_type,
    members,
    option,
    specs_of,
)
from hf_align.config.group import Group


@dataclass(frozen=True)
class Inner(Group):
    path: str = option(help="where it is")


@dataclass(frozen=True)
class Outer(Group):
    size: int = option(help="of it", ge=1, lt=10)
    share: float = option(0.5, help="of all", gt=0, le=1)
    kinds: list[Literal["a", "b"]] = option(factory=lambda: ["a"], help="of it", non_empty=True)
    parts: list[Inner] = option(factory=list, help="of it")


def test_what_is_declared_comes_back_in_order() -> None:
    specs = specs_of(Outer)
    assert list(specs) == ["size", "share", "kinds", "parts"]
    assert [spec.required for spec in specs.values()] == [True, False, False, False]
    assert [spec.default for spec in specs.values()] == [None, 0.5, ["a"], []]
    assert specs["size"].expected == "a whole number of at least 1 and below 10"
    assert specs["share"].expected == "a number above 0 and at most 1"
    assert specs["kinds"].expected == "a list, each item one of: a, b (not empty)"
    assert specs["parts"].expected == "a list of paths or of mappings with a 'path'"
    assert entry_type(specs["parts"].hint) is Inner and entry_type(specs["kinds"].hint) is None


@pytest.mark.parametrize(
    ("hint", "words"),
    [
        (bool, "true or false"),
        (int | None, "a whole number or null"),
        (dict[str, float], "a mapping from names to a number"),
        (list[str], "a list of text"),
        (list[int], "a list, each item a whole number"),
        (Literal["x", "y"], "one of: x, y"),
    ],
)
def test_types_in_words(hint: Any, words: str) -> None:
    assert describe_type(hint) == words


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "nothing (null)"),
        (True, "true"),
        (3.0, "the number 3"),
        (1e-4, "the number 0.0001"),
        (10**40, "a number of more than 30 digits"),
        ("x" * 61, "the text '" + "x" * 57 + "...'"),
        ([], "an empty list"),
        ((1,), "a list"),
        ({}, "a mapping"),
    ],
)
def test_values_in_words(value: Any, words: str) -> None:
    assert describe_found(value) == words


def test_alternatives_and_choices() -> None:
    assert members(int | None) == (int, type(None)) and members(str) == (str,)
    assert choices(Literal["a"]) == ("a",) and choices(str) == ()
