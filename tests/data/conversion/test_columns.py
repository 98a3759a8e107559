"""Columns that no format names: to the template, refused, or counted."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hf_align.data.conversion.columns import unread
from hf_align.data.conversion.detection import resolve_format
from hf_align.data.conversion.formats import FORMATS, PROMPT_FORMATS
from hf_align.data.reading.raw import MalformedRow, RawRow
from hf_align.types import Example, Message
from hf_align.types.examples import from_stored

TALK = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
TOOL = {"type": "function", "function": {"name": "add", "parameters": {}}}


def convert(row: dict[str, Any], formats: Any = FORMATS, **options: Any) -> Any:
    raw = RawRow("f:1", row)
    return resolve_format("auto", {}, [raw], where="f", formats=formats, **options)(raw)


def test_tools_and_keywords_go_to_the_template_and_are_kept() -> None:
    row = {"messages": TALK, "tools": json.dumps([TOOL]), "chat_template_kwargs": {"enable_thinking": False}}
    example = convert(row, template_options={"enable_thinking": True, "style": "a"})
    assert json.loads(example.template) == {"enable_thinking": False, "style": "a", "tools": [TOOL]}
    kind, value = example.stored()
    assert from_stored("f:1", kind, json.loads(json.dumps(value))) == example


@pytest.mark.parametrize("column", ["system", "system_prompt"])
@pytest.mark.parametrize("rest", [{"messages": TALK}, {"prompt": "q", "completion": "a"}])
def test_a_system_column_is_a_system_turn(column: str, rest: dict[str, Any]) -> None:
    turns = (Message("system", "s"), Message("user", "q"), Message("assistant", "a"))
    assert convert({column: "s", **rest}) == Example("f:1", messages=turns)


def test_turns_as_json_text() -> None:
    assert convert({"messages": json.dumps(TALK)}) == convert({"messages": TALK})


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"messages": TALK, "images": ["a.png"]}, "images: only text"),
        ({"messages": TALK, "audio": {"path": "a"}}, "audio: only text"),
        ({"prompt": "q", "completion": "a", "label": False}, "label: found false: this is unpaired feedback"),
        ({"messages": TALK, "label": True}, "unpaired feedback"),
        ({"prompt": "q", "completion": "a", "tools": [TOOL]}, "tools: plain text has no chat template"),
        ({"messages": TALK, "chat_template_kwargs": {"tokenize": True}}, "is no keyword of a template"),
        ({"messages": TALK, "chat_template_kwargs": "x"}, "expected a JSON object"),
        ({"messages": TALK, "weight": -0.5}, "weight: found -0.5"),
    ],
)
def test_what_cannot_be_obeyed_is_refused(row: dict[str, Any], message: str) -> None:
    with pytest.raises(MalformedRow, match=message):
        convert(row)


def test_a_stage_that_asks_hands_labels_to_its_rewards() -> None:
    assert convert({"prompt": "q", "completion": "a", "label": False}, PROMPT_FORMATS).prompt == "q"


def test_what_is_not_read_is_named() -> None:
    turns = [
        {"role": "user", "content": "q", "mood": "good"},
        {"role": "assistant", "content": "a", "weight": 1},
    ]
    row = {"messages": turns, "id": 3, "split": None, "tools": [], "weight": 1, "images": []}
    assert list(unread(row, {"messages", "system"})) == ["messages[].mood", "id"]
