"""Turns the values of one row into an ``Example``, one function a format.

Each takes the place of the row and its values by canonical column (None where the row has none), and raises
``MalformedRow`` with the reason when the row cannot be used as it stands. Nothing is repaired: what a row
says is either carried over whole or the row is malformed. Choosing the format is the business of ``formats``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from hf_align.data.raw import MalformedRow, kind_of
from hf_align.errors import did_you_mean
from hf_align.types import Example, Message

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
_UNREAD_TURN_KEYS = ("tool_calls", "reasoning_content", "thinking", "reasoning")
_BAIZE_MARKER = re.compile(r"\[\|(Human|AI)\|\]")


def from_alpaca(place: str, values: dict[str, Any]) -> Example:
    """``instruction``, ``input`` and ``output``; also ``system`` and ``history`` (pairs of user, assistant).

    Instruction and input, where there is one, are joined by a line break into the user's turn.
    """
    instruction = _text(values["instruction"], "instruction", optional=True)
    given = _text(values["input"], "input", optional=True)
    if not instruction.strip() and not given.strip():
        raise MalformedRow("instruction and input are empty")
    messages = _system(values["system"])
    history = values["history"]
    if history is not None and history != "":
        if not isinstance(history, list):
            raise MalformedRow(
                f"history: expected a list of [user, assistant] pairs, found {kind_of(history)}"
            )
        for number, pair in enumerate(history, start=1):
            if not isinstance(pair, list) or len(pair) != 2:
                raise MalformedRow(f"history {number}: expected a pair [user, assistant]")
            messages.append(Message("user", _text(pair[0], f"history {number}, user")))
            messages.append(Message("assistant", _text(pair[1], f"history {number}, assistant")))
    user = f"{instruction}\n{given}" if instruction and given else instruction or given
    messages += [Message("user", user), Message("assistant", _text(values["output"], "output"))]
    return _conversation(place, messages)


def from_sharegpt(place: str, values: dict[str, Any]) -> Example:
    """``conversations``: turns with from/value (ShareGPT, Vicuna) or role/content; also ``system``."""
    turns = _turns(values["conversations"], "conversations")
    system = _system(values["system"])
    if system and any(turn.role == "system" for turn in turns):
        raise MalformedRow("has a system column and a system turn")
    return _conversation(place, system + turns)


def from_messages(place: str, values: dict[str, Any]) -> Example:
    """``messages``: turns with role/content (or from/value)."""
    return _conversation(place, _turns(values["messages"], "messages"))


def from_baize(place: str, values: dict[str, Any]) -> Example:
    """``input``: a transcript with ``[|Human|]`` and ``[|AI|]`` before each turn.

    Text before the first marker becomes the system turn. The white space around a turn belongs to the
    transcript; so does the empty human turn that closes each transcript of this kind.
    """
    transcript = _text(values["input"], "input")
    preamble, *parts = _BAIZE_MARKER.split(transcript)
    if not parts:
        raise MalformedRow("the transcript has neither [|Human|] nor [|AI|]")
    messages = _system(preamble.strip())
    for speaker, content in zip(parts[::2], parts[1::2], strict=True):
        messages.append(Message("user" if speaker == "Human" else "assistant", content.strip()))
    if messages[-1] == Message("user", ""):
        messages.pop()
    return _conversation(place, messages)


def from_prompt_completion(place: str, values: dict[str, Any]) -> Example:
    """``prompt`` and ``completion``: two strings, or two lists of turns, which make one conversation."""
    prompt, completion = values["prompt"], values["completion"]
    if isinstance(prompt, list) and isinstance(completion, list):
        if not any(turn.role == "assistant" for turn in _turns(completion, "completion")):
            raise MalformedRow("completion: no assistant turn")
        return _conversation(place, _turns(prompt, "prompt") + _turns(completion, "completion"))
    if isinstance(prompt, list) != isinstance(completion, list):
        raise MalformedRow(
            f"prompt is {kind_of(prompt)} and completion is {kind_of(completion)}; "
            "expected two strings or two lists of turns"
        )
    example = Example(place, prompt=_text(prompt, "prompt"), completion=_text(completion, "completion"))
    _refuse_empty(completion, "completion")
    return example


def from_text(place: str, values: dict[str, Any]) -> Example:
    """``text``: one plain document."""
    text = _text(values["text"], "text")
    _refuse_empty(text, "text")
    return Example(place, text=text)


def with_system_prompt(example: Example, system_prompt: str | None) -> Example:
    """The example with ``system_prompt`` as its first turn if it is a conversation without a system turn."""
    messages = example.messages
    if system_prompt is None or messages is None or any(message.role == "system" for message in messages):
        return example
    return Example(example.source, messages=(Message("system", system_prompt), *messages))


def _conversation(place: str, messages: Sequence[Message]) -> Example:
    """An example of these turns, which must have an assistant turn and no empty one of that role."""
    answers = [message for message in messages if message.role == "assistant"]
    if not answers:
        raise MalformedRow("no assistant turn")
    for number, message in enumerate(answers, start=1):
        if not message.content.strip():
            raise MalformedRow(
                "empty answer" if len(answers) == 1 else f"empty answer (assistant turn {number})"
            )
    return Example(place, messages=tuple(messages))


def _turns(value: Any, column: str) -> list[Message]:
    if not isinstance(value, list):
        raise MalformedRow(f"{column}: expected a list of turns, found {kind_of(value)}")
    if not value:
        raise MalformedRow(f"{column}: empty conversation")
    return [_turn(turn, f"{column}, turn {number}") for number, turn in enumerate(value, start=1)]


def _turn(turn: Any, name: str) -> Message:
    if not isinstance(turn, dict):
        raise MalformedRow(f"{name}: expected an object, found {kind_of(turn)}")
    keys = next((pair for pair in _TURN_KEYS if turn.get(pair[0]) is not None), None)
    if keys is None:
        raise MalformedRow(
            f"{name}: expected the keys role and content, or from and value; found {_names(turn)}"
        )
    role_key, content_key = keys
    for key in _UNREAD_TURN_KEYS:
        if turn.get(key):
            raise MalformedRow(
                f"{name}: has '{key}', which is not read; write it into the turn's {content_key}"
            )
    found = turn[role_key]
    role = ROLES.get(found.lower()) if isinstance(found, str) else None
    if role is None:
        shown = _shown(found) if isinstance(found, str) else kind_of(found)
        raise MalformedRow(f"{name}: unknown role {shown}.{did_you_mean(str(found).lower(), ROLES)}")
    if content_key not in turn:
        raise MalformedRow(f"{name}: has no '{content_key}'; found {_names(turn)}")
    return Message(role, _content(turn[content_key], f"{name}, {content_key}"))


def _content(value: Any, name: str) -> str:
    """A turn's content: a string, or a list of parts that are all text."""
    if not isinstance(value, list):
        return _text(value, name)
    texts = []
    for part in value:
        if isinstance(part, dict) and part.get("type", "text") == "text":
            texts.append(_text(part.get("text"), name))
        elif isinstance(part, str):
            texts.append(_text(part, name))
        else:
            kind = _shown(part.get("type")) if isinstance(part, dict) else kind_of(part)
            raise MalformedRow(f"{name}: only text parts can be read, found {kind}")
    return "".join(texts)


def _system(value: Any) -> list[Message]:
    text = _text(value, "system", optional=True)
    return [Message("system", text)] if text else []


def _text(value: Any, name: str, *, optional: bool = False) -> str:
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


def _refuse_empty(text: str, name: str) -> None:
    if not text.strip():
        raise MalformedRow(f"empty {name}")


def _names(turn: dict[str, Any]) -> str:
    return ", ".join(_shown(key) for key in turn) or "nothing"


def _shown(value: Any) -> str:
    """A short, printable form of a name from the data."""
    text = ascii(value)
    return text if len(text) <= 40 else text[:37] + "..."
