"""What a turn may hold beside role and content: calls of tools, thoughts, names, and whether it is trained.

Everything here is either handed to the chat template in the form that templates of transformers read, or
decides what is a target, or is refused with the reason. A key that is not known is counted by the data
report.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from hf_align.data.reading.raw import MalformedRow, kind_of

REASONING_KEYS = ("reasoning_content", "thinking", "reasoning")
TRAIN_KEYS = ("weight", "train", "training", "loss", "train_on_turn")
MEDIA_KEYS = ("images", "image", "audio", "audios", "video", "videos")
_FOR_TEMPLATES = ("name", "tool_call_id")
_CALL_KEYS = ("tool_calls", "function_call")
TURN_KEYS = frozenset(
    {
        *("role", "content", "from", "value"),
        *(*REASONING_KEYS, *TRAIN_KEYS, *MEDIA_KEYS, *_FOR_TEMPLATES, *_CALL_KEYS),
    }
)
"""The keys of a turn that are read or refused."""


def is_trained(turn: Mapping[str, Any], name: str) -> bool:
    """Whether the turn's answer is a target: not where ``weight`` is 0, or ``train`` or ``loss`` is false."""
    found = [(key, turn[key]) for key in TRAIN_KEYS if turn.get(key) is not None]
    for key, value in found:
        if isinstance(value, str) and value.lower() in ("true", "false", "0", "1"):
            value = value.lower() in ("true", "1")
        if not isinstance(value, bool | int | float) or value not in (0, 1):
            raise MalformedRow(
                f"{name}, {key}: found {json.dumps(value, default=str)[:40]}; a turn is trained (1 or true) "
                "or not (0 or false)",
                "weight",
            )
        if not value:
            return False
    return True


def refuse_media(values: Mapping[str, Any], name: str = "") -> None:
    """Raise ``MalformedRow`` for a row or a turn with images, sound or video: text alone would be trained."""
    for key in MEDIA_KEYS:
        if values.get(key):
            where = f"{name}, {key}" if name else key
            raise MalformedRow(
                f"{where}: only text is read, and this row is about more than its text", "media"
            )


def template_fields(turn: Mapping[str, Any], name: str) -> dict[str, Any]:
    """What the template gets of the turn beside role and content, as transformers' templates name it."""
    fields: dict[str, Any] = {}
    calls = turn.get("tool_calls")
    if calls:
        fields["tool_calls"] = tool_calls(calls, f"{name}, tool_calls")
    if turn.get("function_call"):
        if calls:
            raise MalformedRow(f"{name}: has tool_calls and function_call; expected one of them")
        fields["tool_calls"] = tool_calls(turn["function_call"], f"{name}, function_call")
    thoughts = [(key, turn[key]) for key in REASONING_KEYS if turn.get(key)]
    for key, value in thoughts:
        if not isinstance(value, str):
            raise MalformedRow(f"{name}, {key}: expected a string, found {kind_of(value)}")
        if value != thoughts[0][1]:
            raise MalformedRow(f"{name}: {thoughts[0][0]} and {key} differ; expected one of them")
    if thoughts:
        # Templates read one name or the other.
        fields |= {"reasoning_content": thoughts[0][1], "thinking": thoughts[0][1]}
    fields |= {key: turn[key] for key in _FOR_TEMPLATES if isinstance(turn.get(key), str)}
    return fields


def tool_calls(value: Any, name: str) -> list[dict[str, Any]]:
    """Calls in the form ``{"type": "function", "function": {"name", "arguments"}}``; arguments as an object.

    Reads one call or a list of them, as values or as JSON text: OpenAI's form, with ``arguments`` as text or
    as an object, or a name with arguments alone (``parameters`` counts as arguments).
    """
    value = _decoded(value, name)
    listed = value if isinstance(value, list) else [value]
    if not listed:
        raise MalformedRow(f"{name}: no call")
    return [_call(call, name if len(listed) == 1 else f"{name} {i}") for i, call in enumerate(listed, 1)]


def _call(call: Any, name: str) -> dict[str, Any]:
    call = _decoded(call, name)
    if not isinstance(call, dict):
        raise MalformedRow(f"{name}: expected an object with name and arguments, found {kind_of(call)}")
    function = call.get("function", call)
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise MalformedRow(f"{name}: expected a call with a name; found {json.dumps(call)[:80]}")
    arguments = function.get("arguments", function.get("parameters"))
    arguments = {} if arguments in (None, "") else _decoded(arguments, f"{name}, arguments")
    if not isinstance(arguments, dict):
        raise MalformedRow(f"{name}, arguments: expected an object, found {kind_of(arguments)}")
    made: dict[str, Any] = {"type": "function"}
    if isinstance(call.get("id"), str):
        made["id"] = call["id"]
    return made | {"function": {"name": function["name"], "arguments": arguments}}


def tools_of(value: Any) -> list[Any] | None:
    """The tools that a conversation may call, from a list or its JSON text; None where there are none."""
    if value is None or value == "":
        return None
    value = _decoded(value, "tools")
    listed = value if isinstance(value, list) else [value]
    for number, tool in enumerate(listed, start=1):
        if not isinstance(tool, dict):
            raise MalformedRow(
                f"tools {number}: expected an object that describes a tool, found {kind_of(tool)}"
            )
    return [_described(tool) for tool in listed] or None


def _described(tool: dict[str, Any]) -> dict[str, Any]:
    """A tool as templates expect it: ``{"type": "function", "function": {...}}``."""
    bare = "name" in tool and "function" not in tool
    return {"type": "function", "function": tool} if bare else tool


def _decoded(value: Any, name: str) -> Any:
    """``value``, or what its JSON text stands for."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        raise MalformedRow(f"{name}: expected JSON, found the text {ascii(value)[:60]}") from None
