"""Turns the values of one row into a ``LabelledAnswer``, one function a format; as in ``answers``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hf_align.data.conversion.turns import (
    read_text,
    read_turn,
    read_turns,
    refuse_empty,
    refuse_extra,
    with_system_column,
)
from hf_align.data.reading.raw import MalformedRow, kind_of
from hf_align.types import LabelledAnswer, Message


def from_unpaired(place: str, values: dict[str, Any]) -> LabelledAnswer:
    """``prompt``, ``completion`` and ``label`` (TRL's unpaired preference); also ``system``.

    Prompt and completion are strings or lists of turns; the completion is one turn of the assistant. Two
    strings are joined as they stand, without a chat template, unless there is a ``system`` column.
    """
    prompt, completion = values["prompt"], values["completion"]
    desirable = _label(values["label"])
    if isinstance(prompt, str) and isinstance(completion, str) and values["system"] is None:
        refuse_empty(completion, "completion")
        return LabelledAnswer(
            place, read_text(prompt, "prompt"), read_text(completion, "completion"), desirable
        )
    turns = (
        read_turns(prompt, "prompt")
        if isinstance(prompt, list)
        else [Message("user", read_text(prompt, "prompt"))]
    )
    if isinstance(completion, list):
        answer = read_turns(completion, "completion")
    elif isinstance(completion, dict):
        answer = [read_turn(completion, "completion")]
    else:
        answer = [Message("assistant", read_text(completion, "completion"))]
    if len(answer) != 1:
        raise MalformedRow(f"completion: expected one turn of the assistant, found {len(answer)} turns")
    return _conversation(place, with_system_column([*turns, *answer], values["system"]), desirable)


def from_unpaired_messages(place: str, values: dict[str, Any]) -> LabelledAnswer:
    """``messages`` that end with the answer, and ``label``."""
    turns = with_system_column(read_turns(values["messages"], "messages"), values["system"])
    return _conversation(place, turns, _label(values["label"]))


def from_unpaired_sharegpt(place: str, values: dict[str, Any]) -> LabelledAnswer:
    """``conversations`` that end with the answer, and ``label``; also ``system``."""
    turns = read_turns(values["conversations"], "conversations")
    return _conversation(place, with_system_column(turns, values["system"]), _label(values["label"]))


def _conversation(place: str, turns: Sequence[Message], desirable: bool) -> LabelledAnswer:
    *prompt, answer = turns
    if answer.role != "assistant":
        raise MalformedRow(f"the last turn is one of the {answer.role}; expected the assistant's answer")
    refuse_extra(answer, "answer")
    refuse_empty(answer.content, "answer")
    if not prompt:
        raise MalformedRow("has no turn before the answer")
    if prompt[-1].role == "assistant":
        raise MalformedRow("the prompt ends with a turn of the assistant, before the answer")
    return LabelledAnswer(place, tuple(prompt), answer.content, desirable)


def _label(value: Any) -> bool:
    """True for a desirable answer: a Boolean, or 1 and 0."""
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float) and value in (0, 1):
        return bool(value)
    raise MalformedRow(
        f"label: expected true (desirable) or false, found {kind_of(value)}"
        + (f" {value!r}"[:40] if isinstance(value, int | float | str) else "")
    )
