"""Reads what the rows of every conversational format are made of: turns, their roles and their texts.

Each function takes a decoded JSON value and its name in the row, and raises ``MalformedRow`` with that name
where the value is of another kind. What a format does with the turns is up to ``answers`` and
``comparisons``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from hf_align.data.conversion.turn_fields import is_trained, refuse_media, template_fields, tool_calls
from hf_align.data.reading.raw import MalformedRow, kind_of
from hf_align.errors import did_you_mean
from hf_align.types import AnyExample, Message
from hf_align.types.examples import Turns

ROLES: dict[str, str] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "ai": "assistant",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
}
"""Role names met in data sets (lower case) and the role that each stands for."""

_TURN_KEYS = (("role", "content"), ("from", "value"))
_CALLING_ROLES = ("function_call", "tool_call")
"""ShareGPT's turns whose value is a call, as JSON."""


def read_turns(value: Any, column: str) -> list[Message]:
    """At least one turn, from a list of objects or its JSON text, as in a cell of a table."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise MalformedRow(f"{column}: expected a list of turns, found text that is no JSON") from None
    if not isinstance(value, list):
        raise MalformedRow(f"{column}: expected a list of turns, found {kind_of(value)}")
    if not value:
        raise MalformedRow(f"{column}: empty conversation")
    return [read_turn(turn, f"{column}, turn {number}") for number, turn in enumerate(value, start=1)]


def read_turn(turn: Any, name: str) -> Message:
    """One turn, from an object with role and content, or from and value."""
    if not isinstance(turn, dict):
        raise MalformedRow(f"{name}: expected an object, found {kind_of(turn)}")
    keys = next((pair for pair in _TURN_KEYS if turn.get(pair[0]) is not None), None)
    if keys is None:
        raise MalformedRow(
            f"{name}: expected the keys role and content, or from and value; found {_names(turn)}"
        )
    role_key, content_key = keys
    refuse_media(turn, name)
    trained, fields = is_trained(turn, name), template_fields(turn, name)
    found = turn[role_key]
    if isinstance(found, str) and found.lower() in _CALLING_ROLES:
        calls = tool_calls(turn.get(content_key), f"{name}, {content_key}")
        return Message("assistant", "", _written(fields | {"tool_calls": calls}), trained)
    role = ROLES.get(found.lower()) if isinstance(found, str) else None
    if role is None:
        shown = _shown(found) if isinstance(found, str) else kind_of(found)
        raise MalformedRow(f"{name}: unknown role {shown}.{did_you_mean(str(found).lower(), ROLES)}")
    if turn.get(content_key) is None and "tool_calls" in fields:
        # Templates may tell null from an empty text.
        return Message(role, "", _written({"content": None} | fields), trained)
    if content_key not in turn:
        raise MalformedRow(f"{name}: has no '{content_key}'; found {_names(turn)}")
    return Message(role, _content(turn[content_key], f"{name}, {content_key}"), _written(fields), trained)


def _written(fields: dict[str, Any]) -> str:
    """The fields as JSON text, so that a turn can be compared and kept; empty where there are none."""
    return json.dumps(fields, ensure_ascii=False) if fields else ""


def _content(value: Any, name: str) -> str:
    """A turn's content: a string, or a list of parts that are all text."""
    if not isinstance(value, list):
        return read_text(value, name)
    texts = []
    for part in value:
        if isinstance(part, dict) and part.get("type", "text") == "text":
            texts.append(read_text(part.get("text"), name))
        elif isinstance(part, str):
            texts.append(read_text(part, name))
        else:
            kind = _shown(part.get("type")) if isinstance(part, dict) else kind_of(part)
            raise MalformedRow(f"{name}: only text parts can be read, found {kind}")
    return "".join(texts)


def system_turns(value: Any) -> list[Message]:
    """The system turn that a column holds; none where it is empty."""
    text = read_text(value, "system", optional=True)
    return [Message("system", text)] if text else []


def with_system_column(turns: Sequence[Message], value: Any) -> Turns:
    """The turns behind what a system column holds. Raises ``MalformedRow`` where both have a system turn."""
    system = system_turns(value)
    if system and any(turn.role == "system" for turn in turns):
        raise MalformedRow("has a system column and a system turn")
    return (*system, *turns)


def with_system_prompt(example: AnyExample, system_prompt: str | None) -> AnyExample:
    """The same with ``system_prompt`` as its first turn if it is a conversation without a system turn."""
    turns = getattr(example, example.turns_in, None)
    if system_prompt is None or not isinstance(turns, tuple) or any(turn.role == "system" for turn in turns):
        return example
    return replace(example, **{example.turns_in: (Message("system", system_prompt), *turns)})


def read_text(value: Any, name: str, *, optional: bool = False) -> str:
    """A string that can be encoded; None counts as empty where ``optional``."""
    if value is None and optional:
        return ""
    if not isinstance(value, str):
        raise MalformedRow(f"{name}: expected a string, found {kind_of(value)}")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        code = ord(value[error.start])
        raise MalformedRow(
            f"{name}: lone surrogate U+{code:04X} at character {error.start + 1} "
            "(a broken \\u escape, or a file that is not UTF-8)"
        ) from None
    return value


def refuse_empty(text: str, name: str) -> None:
    """Raise ``MalformedRow`` for a text without any character but white space."""
    if not text.strip():
        raise MalformedRow(f"empty {name}")


def _names(turn: dict[str, Any]) -> str:
    return ", ".join(_shown(key) for key in turn) or "nothing"


def _shown(value: Any) -> str:
    """A short, printable form of a name from the data."""
    text = ascii(value)
    return text if len(text) <= 40 else text[:37] + "..."
