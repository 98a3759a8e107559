"""Detection of the row format, conversion of each format, and rows that are refused with a reason."""

from __future__ import annotations

from typing import Any

import pytest

from hf_align.data.conversion.detection import resolve_format
from hf_align.data.conversion.formats import FORMATS
from hf_align.data.conversion.turns import with_system_prompt
from hf_align.data.reading.raw import MalformedRow, RawRow
from hf_align.errors import UserError
from hf_align.types import Example, Message


def _convert(row: dict[str, Any], name: str = "auto", columns: dict[str, str] | None = None) -> Example:
    raw = RawRow("f:1", row)
    convert = resolve_format(name, columns or {}, [raw], where="f")
    return convert(raw)


def _messages(*turns: tuple[str, str]) -> Example:
    return Example("f:1", messages=tuple(Message(role, content) for role, content in turns))


CHAT = (("user", "q"), ("assistant", "a"))


@pytest.mark.parametrize(
    ("row", "name", "example"),
    [
        ({"instruction": "q", "output": "a"}, "alpaca", _messages(*CHAT)),
        ({"instruction": "q", "input": "", "output": "a"}, "alpaca", _messages(*CHAT)),
        ({"instruction": "q", "input": None, "output": "a"}, "alpaca", _messages(*CHAT)),
        ({"instruction": "q", "input": "i", "output": "a"}, "alpaca", _messages(("user", "q\ni"), CHAT[1])),
        (
            {"instruction": "q", "output": "a", "system": "s", "history": [["u", "v"]]},
            "alpaca",
            _messages(("system", "s"), ("user", "u"), ("assistant", "v"), *CHAT),
        ),
        (
            {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}], "id": 1},
            "sharegpt",
            _messages(*CHAT),
        ),
        (
            {
                "conversations": [{"from": "user", "value": "q"}, {"from": "Bard", "value": "a"}],
                "system": "s",
            },
            "sharegpt",
            _messages(("system", "s"), *CHAT),
        ),
        (
            {"conversations": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]},
            "sharegpt",
            _messages(*CHAT),
        ),
        (
            {
                "messages": [
                    {"role": "developer", "content": "s"},
                    {
                        "role": "user",
                        "content": [{"type": "text", "text": "q"}, {"type": "text", "text": "!"}],
                    },
                    {"role": "assistant", "content": "a", "tool_calls": None},
                    {"role": "tool", "content": "t"},
                ],
                "prompt": "q",
            },
            "messages",
            _messages(("system", "s"), ("user", "q!"), ("assistant", "a"), ("tool", "t")),
        ),
        (
            {"topic": "x", "input": "Talk.\n[|Human|] q\n[|AI|] a\n[|Human|] r [|AI|]b\n[|Human|] "},
            "baize",
            _messages(("system", "Talk."), *CHAT, ("user", "r"), ("assistant", "b")),
        ),
        (
            {"prompt": "q ", "completion": " a"},
            "prompt_completion",
            Example("f:1", prompt="q ", completion=" a"),
        ),
        ({"prompt": "", "completion": "a"}, "prompt_completion", Example("f:1", prompt="", completion="a")),
        (
            {
                "prompt": [{"role": "user", "content": "q"}],
                "completion": [{"role": "assistant", "content": "a"}],
            },
            "prompt_completion",
            _messages(*CHAT),
        ),
        ({"text": " some\ntext ", "url": "u"}, "text", Example("f:1", text=" some\ntext ")),
    ],
)
def test_each_format_is_detected_and_converted(row: dict[str, Any], name: str, example: Example) -> None:
    raw = RawRow("f:1", row)
    assert resolve_format("auto", {}, [raw], where="f").format == name
    assert _convert(row) == _convert(row, name) == example


def test_columns_give_other_names() -> None:
    row = {"question": "q", "reply": "a", "text": "t"}
    renamed = {"prompt": "question", "completion": "reply"}
    assert _convert(row, columns=renamed) == Example("f:1", prompt="q", completion="a")
    assert _convert(row, columns={"instruction": "question", "output": "reply"}) == _messages(*CHAT)
    assert _convert(row) == Example("f:1", text="t")
    dialogue = {"dialogue": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}
    assert _convert(dialogue, columns={"messages": "dialogue"}) == _messages(*CHAT)


@pytest.mark.parametrize(
    ("name", "columns", "row", "message"),
    [
        (
            "auto",
            {},
            {"question": 1, "answer": 2},
            r"f: the columns fit no known format\. Found: question, answer",
        ),
        ("auto", {}, {}, "Found: none"),
        ("auto", {"promt": "question"}, {"question": 1}, r"'promt'.*Did you mean 'prompt'"),
        (
            "alpaca",
            {},
            {"instruction": "a", "outputs": "b"},
            r"needs the column 'output', .*Did you mean 'outputs'",
        ),
        (
            "alpaca",
            {"output": "respons"},
            {"instruction": "a", "response": "b"},
            r"'respons' \(mapped to 'output' by `columns`\).*Found: instruction, response.*Did you mean",
        ),
        ("alpaca", {"system": "sys"}, {"instruction": "a", "output": "b"}, "needs the column 'sys'"),
        (
            "text",
            {"prompt": "a"},
            {"text": "b"},
            "maps 'prompt', which is no column of the format; expected text",
        ),
    ],
)
def test_columns_that_do_not_fit(
    name: str, columns: dict[str, str], row: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        _convert(row, name, columns)


def test_broken_column_names_can_be_printed() -> None:
    with pytest.raises(UserError, match=r"Found: a\\udcff, b") as caught:
        _convert({"a\udcff": 1, "b": 2})
    str(caught.value).encode()


def test_a_source_without_a_readable_row_is_refused() -> None:
    with pytest.raises(UserError, match=r"none of the first 2 rows is readable\. f:1: broken; f:2: torn"):
        resolve_format("auto", {}, [RawRow("f:1", None, "broken"), RawRow("f:2", None, "torn")], where="f")


USER, ANSWER = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}


@pytest.mark.parametrize(
    ("name", "row", "reason"),
    [
        ("alpaca", {"instruction": "q"}, "has no 'output'"),
        ("alpaca", {"instruction": "q", "output": " \n"}, "empty answer"),
        ("alpaca", {"instruction": "q", "output": None}, "output: expected a string, found null"),
        ("alpaca", {"instruction": 3, "output": "a"}, "instruction: expected a string, found a number"),
        ("alpaca", {"instruction": " ", "input": "", "output": "a"}, "instruction and input are empty"),
        (
            "alpaca",
            {"instruction": "q", "output": "a\ud800"},
            r"output: lone surrogate U\+D800 at character 2",
        ),
        ("alpaca", {"instruction": "q", "output": "a", "history": [["u"]]}, "history 1: expected a pair"),
        ("alpaca", {"instruction": "q", "output": "a", "history": {"u": "v"}}, "history: expected a list"),
        (
            "alpaca",
            {"instruction": "q", "output": "a", "history": [["u", ""]]},
            r"empty answer \(assistant turn 1\)",
        ),
        ("sharegpt", {"conversations": []}, "empty conversation"),
        ("sharegpt", {"conversations": "[]"}, "empty conversation"),
        (
            "sharegpt",
            {"conversations": [{"from": "humam", "value": "q"}]},
            r"turn 1: unknown role 'humam'\. Did you mean 'human'",
        ),
        ("sharegpt", {"conversations": [{"from": "human", "value": "q"}]}, "no assistant turn"),
        ("sharegpt", {"conversations": [{"from": "human"}]}, "has no 'value'"),
        ("sharegpt", {"conversations": [{"speaker": "a", "text": "b"}]}, "found 'speaker', 'text'"),
        (
            "sharegpt",
            {
                "conversations": [{"from": "system", "value": "s"}, {"from": "gpt", "value": "a"}],
                "system": "t",
            },
            "a system column and a system turn",
        ),
        ("messages", {"messages": [USER, ["assistant", "a"]]}, "turn 2: expected an object, found a list"),
        ("messages", {"messages": [USER, {"role": ["a"], "content": "a"}]}, "unknown role a list"),
        ("messages", {"messages": [USER, {"role": "\ud800", "content": "a"}]}, r"unknown role '\\ud800'"),
        (
            "messages",
            {"messages": [USER, {"role": "assistant", "content": None}]},
            "content: expected a string, found null",
        ),
        ("messages", {"messages": [USER, {"role": "assistant", "content": ""}]}, "empty answer"),
        (
            "messages",
            {"messages": [USER, ANSWER | {"tool_calls": [{"x": 1}]}]},
            "tool_calls: expected a call with a name",
        ),
        (
            "messages",
            {"messages": [{"role": "user", "content": [{"type": "image", "url": "u"}]}, ANSWER]},
            "only text parts can be read, found 'image'",
        ),
        (
            "messages",
            {"messages": [{"role": "user", "content": [3]}, ANSWER]},
            "only text parts can be read, found a number",
        ),
        ("baize", {"input": "no markers"}, "neither"),
        ("baize", {"input": "[|Human|] q"}, "no assistant turn"),
        ("baize", {"input": "[|Human|] q [|AI|] "}, "empty answer"),
        ("baize", {"input": None}, "expected a string, found null"),
        ("prompt_completion", {"prompt": "q", "completion": ""}, "empty completion"),
        (
            "prompt_completion",
            {"prompt": [USER], "completion": "a"},
            "prompt is a list and completion is a string",
        ),
        (
            "prompt_completion",
            {"prompt": [USER, ANSWER], "completion": [USER]},
            "completion: no assistant turn",
        ),
        (
            "prompt_completion",
            {"prompt": True, "completion": "a"},
            "prompt: expected a string, found true or false",
        ),
        ("text", {"text": " \t"}, "empty text"),
        ("text", {"text": {"a": 1}}, "text: expected a string, found an object"),
    ],
)
def test_rows_that_are_malformed(name: str, row: dict[str, Any], reason: str) -> None:
    good = {column: None for column in FORMATS[name].required}
    convert = resolve_format(name, {}, [RawRow("f:0", good)], where="f")
    with pytest.raises(MalformedRow, match=reason):
        convert(RawRow("f:1", row))


def test_an_unreadable_row_keeps_its_reason() -> None:
    convert = resolve_format("text", {}, [RawRow("f:0", {"text": "a"})], where="f")
    with pytest.raises(MalformedRow, match="torn"):
        convert(RawRow("f:1", None, "torn"))


def test_a_system_prompt_is_added_only_where_there_is_none() -> None:
    assert with_system_prompt(_messages(*CHAT), "s") == _messages(("system", "s"), *CHAT)
    own = _messages(("system", "t"), *CHAT)
    assert with_system_prompt(own, "s") == own
    assert with_system_prompt(_messages(*CHAT), None) == _messages(*CHAT)
    assert with_system_prompt(Example("f", text="t"), "s") == Example("f", text="t")
