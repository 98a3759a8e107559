"""Calls in the text of answers: what is read of each form, and when two are the same."""

from __future__ import annotations

import json

import pytest

from hf_align.data.chat.calls import Call, call_scores, same_calls, same_names, wanted_calls, written_calls
from hf_align.types import Example, Message

OSLO = Call("weather", {"city": "Oslo"})
ADD = Call("add", {"a": 1, "b": [2.5, None, True]})
HERMES = '<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo"}}\n</tool_call>'


@pytest.mark.parametrize(
    ("text", "calls"),
    [
        (HERMES, [OSLO]),
        (f"Let me look.\n{HERMES}\n{HERMES}", [OSLO, OSLO]),
        ('<tool_call>{"arguments": {"city": "Oslo"}, "name": "weather"}', [OSLO]),
        ('{"name": "weather", "parameters": {"city": "Oslo"}}', [OSLO]),
        ('{"function": {"name": "weather", "arguments": "{\\"city\\": \\"Oslo\\"}"}}', [OSLO]),
        (
            '[TOOL_CALLS][{"name": "add", "arguments": {"a": 1, "b": [2.5, null, true]}}, '
            '{"name": "weather", "arguments": {"city": "Oslo"}}]',
            [ADD, OSLO],
        ),
        (
            '<|python_tag|>{"name": "weather", "parameters": {"city": "Oslo"}}; '
            '{"name": "weather", "parameters": {"city": "Oslo"}}',
            [OSLO, OSLO],
        ),
        ("It is cold.", []),
        ("", []),
        ('{"city": "Oslo"}', []),
        ('{"name": "Ann"}', []),
        ('{"name": "add", "arguments": {"a": 1}} is what I would call', []),
        ("[1, 2]", []),
        ("[" * 100_000, []),
    ],
)  # fmt: skip
def test_the_forms_that_templates_print(text: str, calls: list[Call]) -> None:
    assert written_calls(text) == calls


@pytest.mark.parametrize(
    ("text", "name", "problem"),
    [
        ('<tool_call>\n{"name": "weather", "argum', "", "no JSON object"),
        ("<tool_call>" + "[" * 100_000, "", "nested too deeply"),
        ('<tool_call>{"name": "", "arguments": {}}', "", "expected an object"),
        ('<tool_call>{"name": "weather"}', "weather", "no object"),
        ('<tool_call>{"name": "weather", "arguments": "Oslo"}', "weather", "text that is no JSON"),
        ('<tool_call>{"name": "add", "arguments": {"a": NaN}}', "", "NaN is no JSON"),
    ],
)
def test_a_call_that_cannot_be_read_is_a_call_all_the_same(text: str, name: str, problem: str) -> None:
    (call,) = written_calls(text)
    assert call.name == name and problem in call.problem
    assert not same_calls([call], [Call(name)])


def test_arguments_are_compared_as_json_values() -> None:
    assert same_calls([Call("f", {"a": 1.0, "b": 2})], [Call("f", {"b": 2, "a": 1})])
    for other in ({"a": True}, {"a": "1"}, {"a": 1, "b": None}, {"a": 1.5}, {}):
        assert not same_calls([Call("f", {"a": 1})], [Call("f", other)])
    assert same_names([Call("f", {"a": 1})], [Call("f", {"a": 2})])
    assert same_calls([OSLO, ADD], [ADD, OSLO]) and not same_calls([OSLO], [OSLO, OSLO])


def test_what_a_row_wants() -> None:
    call = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Oslo"}}}
    user = Message("user", "Weather?")
    calling = Message("assistant", "", json.dumps({"tool_calls": [call]}))
    assert wanted_calls(Example("f:1", messages=(user, calling))) == [OSLO]
    assert wanted_calls(Example("f:1", messages=(user, Message("assistant", HERMES)))) == [OSLO]
    assert wanted_calls(Example("f:1", messages=(user, calling, Message("tool", "4")))) == []
    assert wanted_calls(Example("f:1", messages=(user, calling, Message("tool", "4"), user))) == []
    assert wanted_calls(Example("f:1", prompt="Weather?", completion=HERMES)) == [OSLO]
    assert wanted_calls(Example("f:1", text=HERMES)) == []


def test_scores() -> None:
    other = HERMES.replace("Oslo", "Rome")
    assert call_scores(HERMES, [OSLO]) == {"call_name": 1.0, "call_exact": 1.0}
    assert call_scores(other, [OSLO]) == {"call_name": 1.0, "call_exact": 0.0}
    assert call_scores("Cold.", [OSLO]) == {"call_name": 0.0, "call_exact": 0.0}
    assert call_scores("Cold.", []) == {"no_call": 1.0} and call_scores(other, []) == {"no_call": 0.0}
