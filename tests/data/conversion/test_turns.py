"""Turns of a conversation: roles by any name, parts that are text, and what cannot be read."""

from __future__ import annotations

from typing import Any

import pytest

from hf_align.data.conversion.turns import ROLES, read_text, read_turn, read_turns, refuse_empty, system_turns
from hf_align.data.reading.raw import MalformedRow
from hf_align.types import Message


@pytest.mark.parametrize(("name", "role"), sorted(ROLES.items()))
def test_roles_by_any_name(name: str, role: str) -> None:
    assert read_turn({"from": name.upper(), "value": "x"}, "t") == Message(role, "x")


def test_parts_of_text_are_joined() -> None:
    turn = {"role": "user", "content": [{"type": "text", "text": "a"}, "b", {"text": "c"}]}
    assert read_turn(turn, "t").content == "abc"


@pytest.mark.parametrize(
    ("turn", "reason"),
    [
        ("x", "t: expected an object, found a string"),
        ({"text": "x"}, "expected the keys role and content, or from and value; found 'text'"),
        ({"role": "user"}, "t: has no 'content'; found 'role'"),
        ({"role": "usr", "content": "x"}, "unknown role 'usr'. Did you mean 'user'?"),
        ({"role": 3, "content": "x"}, "unknown role a number"),
        (
            {"role": "assistant", "content": "x", "tool_calls": [1]},
            "tool_calls: expected an object with name",
        ),
        ({"role": "user", "content": [{"type": "image"}]}, "only text parts can be read, found 'image'"),
        ({"role": "user", "content": None}, "expected a string, found null"),
        ({"role": "user", "content": "a\ud800"}, "lone surrogate U+D800 at character 2"),
    ],
)
def test_what_cannot_be_read(turn: Any, reason: str) -> None:
    with pytest.raises(MalformedRow) as caught:
        read_turn(turn, "t")
    assert reason in str(caught.value)


def test_lists_and_columns() -> None:
    with pytest.raises(MalformedRow, match="messages: empty conversation"):
        read_turns([], "messages")
    with pytest.raises(MalformedRow, match="messages, turn 2: expected an object"):
        read_turns([{"role": "user", "content": "x"}, 3], "messages")
    assert system_turns(None) == system_turns("") == [] and system_turns("s") == [Message("system", "s")]
    assert read_text(None, "x", optional=True) == ""
    with pytest.raises(MalformedRow, match="empty answer"):
        refuse_empty(" \n", "answer")
