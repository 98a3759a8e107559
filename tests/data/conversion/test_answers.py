"""Values of a row to an example, a format at a time, by hand; nothing is repaired."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pytest

from hf_align.data.conversion.answers import (
    from_alpaca,
    from_baize,
    from_messages,
    from_prompt_completion,
    from_sharegpt,
    from_text,
)
from hf_align.data.conversion.turns import with_system_prompt
from hf_align.data.reading.raw import MalformedRow
from hf_align.types import Comparison, Example, Message


def row(**values: Any) -> dict[str, Any]:
    return defaultdict(lambda: None, values)


def turns(example: Example) -> list[tuple[str, str]]:
    assert example.messages is not None
    return [(message.role, message.content) for message in example.messages]


def test_alpaca_joins_instruction_and_input() -> None:
    found = from_alpaca(
        "p", row(instruction="Add", input="1 2", output="3", system="Short", history=[["Hi", "Hello"]])
    )
    assert turns(found) == [
        ("system", "Short"), ("user", "Hi"), ("assistant", "Hello"), ("user", "Add\n1 2"), ("assistant", "3")
    ]  # fmt: skip
    assert turns(from_alpaca("p", row(instruction="", input="1", output="2")))[0] == ("user", "1")


def test_transcripts_are_cut_at_their_marks() -> None:
    found = from_baize("p", row(input="Be kind.\n[|Human|] Hi [|AI|] Hello\n[|Human|]"))
    assert turns(found) == [("system", "Be kind."), ("user", "Hi"), ("assistant", "Hello")]


def test_prompts_and_completions_as_texts_and_as_turns() -> None:
    plain = from_prompt_completion("p", row(prompt=" a", completion="b "))
    assert (plain.prompt, plain.completion, plain.messages) == (" a", "b ", None)
    chat = row(prompt=[{"role": "user", "content": "a"}], completion=[{"role": "assistant", "content": "b"}])
    assert turns(from_prompt_completion("p", chat)) == [("user", "a"), ("assistant", "b")]


@pytest.mark.parametrize(
    ("convert", "values", "reason"),
    [
        (from_alpaca, row(instruction=" ", output="x"), "instruction and input are empty"),
        (from_alpaca, row(instruction="a", output="b", history=[["x"]]), "history 1: expected a pair"),
        (from_alpaca, row(instruction="a", output=" "), "empty answer"),
        (from_sharegpt, row(conversations=[{"from": "human", "value": "a"}]), "no assistant turn"),
        (
            from_sharegpt,
            row(system="s", conversations=[{"from": "system", "value": "t"}, {"from": "gpt", "value": "a"}]),
            "a system column and a system turn",
        ),
        (
            from_messages,
            row(messages=[{"role": "assistant", "content": "a"}, {"role": "assistant", "content": ""}]),
            r"empty answer \(assistant turn 2\)",
        ),
        (from_baize, row(input="Hello"), r"neither \[\|Human\|\]"),
        (
            from_prompt_completion,
            row(prompt="a", completion=[]),
            "prompt is a string and completion is a list",
        ),
        (from_prompt_completion, row(prompt="a", completion=" "), "empty completion"),
        (from_text, row(text="\n"), "empty text"),
    ],
)
def test_malformed(convert: Any, values: dict[str, Any], reason: str) -> None:
    with pytest.raises(MalformedRow, match=reason):
        convert("p", values)


def test_a_system_prompt_only_where_there_is_none() -> None:
    chat = Example("p", messages=(Message("user", "a"), Message("assistant", "b")))
    with_one = with_system_prompt(chat, "s")
    assert turns(with_one)[0] == ("system", "s") and with_system_prompt(with_one, "t") == with_one
    assert with_system_prompt(Example("p", text="x"), "s").messages is None
    compared = Comparison("p", (Message("user", "a"),), ("x", "y"), (1.0, 0.0))
    assert with_system_prompt(compared, "s").prompt[0] == Message("system", "s")
