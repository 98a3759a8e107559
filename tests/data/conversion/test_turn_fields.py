"""Calls, thoughts, weights and media of a turn: handed on, obeyed or refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hf_align.data.conversion.turn_fields import tool_calls, tools_of
from hf_align.data.conversion.turns import read_turn
from hf_align.data.reading.raw import MalformedRow

CALL = {"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}


@pytest.mark.parametrize(
    "given",
    [
        [CALL],
        json.dumps([CALL]),
        {"name": "add", "arguments": '{"a": 1}'},
        [{"name": "add", "parameters": {"a": 1}}],
        {"function": {"name": "add", "arguments": '{"a": 1}'}},
    ],
)
def test_a_call_in_every_form_is_the_same_call(given: Any) -> None:
    assert tool_calls(given, "t") == [CALL]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "no call"),
        ("add(1)", "expected JSON"),
        ({"arguments": {}}, "a call with a name"),
        ({"name": "add", "arguments": "[1]"}, "arguments: expected an object, found a list"),
    ],
)
def test_what_is_no_call_is_refused(given: Any, message: str) -> None:
    with pytest.raises(MalformedRow, match=message):
        tool_calls(given, "t")


def test_what_a_turn_hands_to_the_template() -> None:
    called = read_turn({"role": "assistant", "content": None, "tool_calls": [CALL | {"id": "c1"}]}, "t")
    assert called.for_template() == {
        "role": "assistant", "content": None, "tool_calls": [CALL | {"id": "c1"}]
    }  # fmt: skip
    shared = read_turn({"from": "function_call", "value": json.dumps(CALL["function"])}, "t")
    assert shared.role == "assistant" and shared.for_template()["tool_calls"] == [CALL]
    beside = read_turn({"role": "assistant", "content": "Wait.", "function_call": CALL["function"]}, "t")
    assert beside.content == "Wait." and beside.for_template()["tool_calls"] == [CALL]
    thought = read_turn({"role": "assistant", "content": "4", "thinking": "2 and 2"}, "t")
    assert thought.for_template()["reasoning_content"] == "2 and 2"
    result = read_turn({"role": "tool", "content": "1", "tool_call_id": "c1", "name": "add"}, "t")
    assert result.for_template()["tool_call_id"] == "c1"


@pytest.mark.parametrize(
    ("keys", "trained"),
    [
        ({}, True),
        ({"weight": 0}, False),
        ({"weight": 1.0}, True),
        ({"train": False}, False),
        ({"loss": "false"}, False),
        ({"training": True, "loss": False}, False),
        ({"weight": None}, True),
    ],
)
def test_whether_a_turn_is_trained(keys: dict[str, Any], trained: bool) -> None:
    assert read_turn({"role": "assistant", "content": "x", **keys}, "t").trained is trained


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"weight": 0.5}, "weight: found 0.5; a turn is trained"),
        ({"train": "perhaps"}, "train: found"),
        ({"images": ["a.png"]}, "images: only text is read"),
        ({"reasoning_content": 3}, "reasoning_content: expected a string"),
        ({"reasoning": "a", "thinking": "b"}, "differ"),
        ({"tool_calls": [CALL], "function_call": CALL}, "has tool_calls and function_call"),
    ],
)
def test_what_would_be_lost_is_refused(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(MalformedRow, match=message):
        read_turn({"role": "assistant", "content": "x", **keys}, "t")


def test_tools_as_a_list_or_its_text() -> None:
    bare = {"name": "add", "parameters": {}}
    wrapped = {"type": "function", "function": bare}
    assert tools_of([bare]) == tools_of(json.dumps([wrapped])) == tools_of(wrapped) == [wrapped]
    assert tools_of(None) is None and tools_of("") is None and tools_of("[]") is None
    with pytest.raises(MalformedRow, match="tools 1: expected an object"):
        tools_of(["add"])
