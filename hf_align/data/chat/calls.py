"""Calls of tools in what a model wrote, and whether they are those that a row holds.

Read are the forms that chat templates print: JSON between ``<tool_call>`` tags, as Hermes and Qwen have it,
and JSON alone, as Llama 3 and Mistral do once their special tokens are gone. A call is an object with
``name`` and ``arguments`` (or ``parameters``). Running calls is elsewhere.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from hf_align.types import Example

CALL_METRICS = ("call_exact", "call_name", "no_call")
"""What ``call_scores`` gives, the strictest first."""
TAG = "<tool_call>"
"""What opens a call in the form of Hermes."""
_TAG = re.compile(rf"{TAG}\s*")
_BEFORE = re.compile(r"\A\s*(?:<\|python_tag\|>|\[TOOL_CALLS\])?\s*")
_BETWEEN = re.compile(r"\s*;?\s*")


@dataclass(frozen=True)
class Call:
    """``name`` of the function, and its ``arguments``. ``problem``: why one of them cannot be read; what is
    unreadable is empty."""

    name: str
    arguments: dict[str, Any] = field(default_factory=dict)
    problem: str = ""


def written_calls(text: str) -> list[Call]:
    """The calls in what a model wrote, in their order; none where it calls nothing."""
    tags = list(_TAG.finditer(text))
    if tags:
        return [_call_at(text, tag.end()) for tag in tags]
    position = _BEFORE.match(text).end()  # type: ignore[union-attr]  # it matches every text
    values: list[Any] = []
    while position < len(text):
        try:
            value, end = _DECODER.raw_decode(text, position)
        except (ValueError, RecursionError):
            return []  # prose, or JSON with prose behind it
        values += value if isinstance(value, list) else [value]
        position = _BETWEEN.match(text, end).end()  # type: ignore[union-attr]
    calls = [_call_of(value) for value in values]
    return [] if any(call.problem for call in calls) else calls


def wanted_calls(example: Example) -> list[Call]:
    """The calls of a row's last answer, those that its text writes included; none where it calls nothing."""
    if not example.answered:
        return []
    if example.messages is None:
        return written_calls(example.completion or "")
    last = example.messages[-1]
    given = json.loads(last.extra).get("tool_calls", []) if last.extra else []
    return [_call_of(call) for call in given] or written_calls(last.content)


def same_names(found: Sequence[Call], wanted: Sequence[Call]) -> bool:
    """Whether the same functions are called, equally often; the order does not count."""
    return sorted(call.name for call in found) == sorted(call.name for call in wanted)


def same_calls(found: Sequence[Call], wanted: Sequence[Call]) -> bool:
    """Whether the calls are the same: names, and arguments as JSON values; the order does not count."""
    return sorted(map(_canonical, found)) == sorted(map(_canonical, wanted))


def call_scores(text: str, wanted: Sequence[Call]) -> dict[str, float]:
    """What counts of an answer, 1 or 0: ``call_name`` and ``call_exact`` where calls are ``wanted``, or else
    ``no_call``: whether it calls nothing, as it should."""
    found = written_calls(text)
    if not wanted:
        return {"no_call": float(not found)}
    return {
        "call_name": float(same_names(found, wanted)),
        "call_exact": float(same_calls(found, wanted)),
    }


def _no_json(word: str) -> Any:
    raise ValueError(f"{word} is no JSON")


_DECODER = json.JSONDecoder(parse_constant=_no_json)


def _call_at(text: str, position: int) -> Call:
    """The call behind a tag; its closing tag may be missing, where the answer was cut."""
    try:
        value, _ = _DECODER.raw_decode(text, position)
    except ValueError as error:
        return Call("", problem=f"no JSON object: {error}")
    except RecursionError:
        return Call("", problem="no JSON object: nested too deeply")
    return _call_of(value)


def _call_of(value: Any) -> Call:
    if isinstance(value, dict) and isinstance(value.get("function"), dict):
        value = value["function"]
    if not isinstance(value, dict) or not isinstance(value.get("name"), str) or not value["name"]:
        return Call("", problem="expected an object with name and arguments")
    arguments = value.get("arguments", value.get("parameters"))
    if isinstance(arguments, str):
        try:
            arguments = _DECODER.decode(arguments)
        except (ValueError, RecursionError):
            return Call(value["name"], problem="the arguments are text that is no JSON")
    if not isinstance(arguments, dict):
        return Call(value["name"], problem="the arguments are no object")
    return Call(value["name"], arguments)


def _canonical(call: Call) -> str:
    """Equal for equal calls: keys in order, and 1.0 written as the 1 that it equals."""
    return json.dumps([call.name, _numbers(call.arguments), call.problem], sort_keys=True)


def _numbers(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_numbers(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
