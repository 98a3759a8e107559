"""Canonical examples compare by value and cannot be changed: they are keys and are sent between processes."""

from __future__ import annotations

import dataclasses
import json
import pickle

import pytest

from hf_align.types import Comparison, Example, LabelledText, Message
from hf_align.types.examples import from_stored

EXAMPLES = [
    Example("p:1", messages=(Message("user", "a"), Message("assistant", "b"))),
    Example("p:2", prompt="a", completion="b"),
    Example("p:2", text="a"),
    Comparison("p:3", "a", ("x", "y"), (1.0, 0.0)),
    LabelledText("p:4", "text", None, "label"),
    Comparison("p:3", (Message("user", "a"),), ("x", "y"), (1.0, 0.0), margin=0.5),
    LabelledText("p:4", "text", "pair", "label"),
]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: type(example).__name__)
def test_they_are_values(example) -> None:
    again = pickle.loads(pickle.dumps(example))
    assert again == example and hash(again) == hash(example)
    with pytest.raises(dataclasses.FrozenInstanceError):
        example.source = "elsewhere"
    assert dataclasses.replace(example, source="q") != example


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: type(example).__name__)
def test_they_come_back_from_json(example) -> None:
    assert from_stored(example.source, *json.loads(json.dumps(example.stored()))) == example


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown kind of example: 'picture'"):
        from_stored("p", "picture", "x")
