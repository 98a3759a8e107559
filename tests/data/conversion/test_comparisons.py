"""Rows of compared answers in every format, and what they become."""

from __future__ import annotations

from typing import Any

import pytest
from helpers.comparison_rows import LONG, SQ, B, Q, S, U, bot, convert, pair, turn, user

from hf_align.data.conversion.detection import resolve_format
from hf_align.data.conversion.formats import COMPARISON_FORMATS
from hf_align.data.conversion.turns import with_system_prompt
from hf_align.data.reading.raw import MalformedRow, RawRow
from hf_align.types import Comparison, Message


@pytest.mark.parametrize(
    ("row", "name", "expected"),
    [
        # Strings stay strings; a system column, or turns anywhere, make a conversation.
        ({"prompt": "q ", "chosen": "a", "rejected": "b"}, "preference", pair("q ")),
        ({"prompt": "", "chosen": "a", "rejected": "b"}, "preference", pair("")),
        (
            {"prompt": "q", "selected": "a", "rejected": "b", "margin": 2},
            "preference",
            pair("q", margin=2.0),
        ),
        ({"prompt": "q", "chosen": "a", "rejected": "b", "system": "s"}, "preference", pair(SQ)),
        ({"prompt": "q", "chosen": "a", "rejected": "b", "system": ""}, "preference", pair(Q)),
        ({"prompt": [U], "chosen": "a", "rejected": "b"}, "preference", pair(Q)),
        ({"prompt": [U], "chosen": bot("a"), "rejected": B}, "preference", pair(Q)),
        ({"prompt": [U], "chosen": [bot("a")], "rejected": [B]}, "preference", pair(Q)),
        ({"prompt": [S, U], "chosen": [S, U, bot("a")], "rejected": [B]}, "preference", pair(SQ)),
        ({"prompt": "q", "chosen": [bot("a")], "rejected": [B]}, "preference", pair(Q)),
        ({"prompt": "q", "chosen": [S, U, bot("a")], "rejected": [S, U, B]}, "preference", pair(SQ)),
        ({"prompt": None, "chosen": [U, bot("a")], "rejected": [U, B]}, "preference", pair(Q)),
        (
            {"chosen": [user("p"), bot("r"), U, bot("a")], "rejected": [user("p"), bot("r"), U, B]},
            "preference",
            pair(LONG),
        ),
        ({"instruction": "q", "chosen": "a", "rejected": "b"}, "alpaca_preference", pair(Q)),
        (
            {"instruction": "q", "input": "", "system": "s", "chosen": [U, B], "rejected": "b"},
            "alpaca_preference",
            "answer 1 does not begin with the prompt",
        ),
        (
            {
                "instruction": "x",
                "input": "y",
                "history": [["u", "v"]],
                "selected": "a",
                "rejected": [bot("b")],
            },
            "alpaca_preference",
            pair((Message("user", "u"), Message("assistant", "v"), Message("user", "x\ny"))),
        ),
        (
            {
                "conversations": [turn("human", "q")],
                "chosen": turn("gpt", "a"),
                "rejected": turn("gpt", "b"),
            },
            "sharegpt_preference",
            pair(Q),
        ),
        (
            {
                "conversations": [turn("human", "p"), turn("gpt", "r"), turn("human", "q")],
                "chosen": "a",
                "rejected": [turn("gpt", "b")],
                "system": None,
            },
            "sharegpt_preference",
            pair(LONG),
        ),
        (
            {"conversations": [turn("human", "q")], "system": "s", "chosen": "a", "rejected": "b"},
            "sharegpt_preference",
            pair(SQ),
        ),
        (
            {
                "chosen": "\n\nHuman: p\n\nAssistant: r\n\nHuman: q\n\nAssistant: a\n\nmore",
                "rejected": "\n\nHuman: p\n\nAssistant: r\n\nHuman: q\n\nAssistant: b",
            },
            "hh",
            pair(LONG, "a\n\nmore"),
        ),
        (
            {"selected": "s\n\nHuman: q\n\nAssistant: a", "rejected": "s\n\nHuman:q\n\nAssistant:b"},
            "hh",
            pair(SQ),
        ),
        ({"chosen": "Human: q\n\nAssistant: a", "rejected": "Human: q\n\nAssistant: b"}, "hh", pair(Q)),
        (
            {
                "instruction": "q",
                "source": "x",
                "completions": [
                    {"response": "a", "overall_score": 7.5, "fine-grained_score": 1.0},
                    {"response": "b", "fine-grained_score": 4, "model": "m"},
                    {"text": "c", "score": 7.5},
                ],
            },
            "ultrafeedback",
            Comparison("f:1", Q, ("a", "b", "c"), (7.5, 4.0, 7.5)),
        ),
        (
            {"prompt": [S, U], "completions": [{"content": "a", "score": -1}, {"content": "b", "score": -2}]},
            "ultrafeedback",
            Comparison("f:1", SQ, ("a", "b"), (-1.0, -2.0)),
        ),
        (
            {"prompt": "q", "answers": ["a", "b", "c"]},
            "ranking",
            Comparison("f:1", "q", ("a", "b", "c"), (2.0, 1.0, 0.0)),
        ),
        (
            {"prompt": [U], "answers": ["a", [bot("b")], "c"], "scores": [1, 2, 1], "margin": 0.5},
            "ranking",
            Comparison("f:1", Q, ("a", "b", "c"), (1.0, 2.0, 1.0), 0.5),
        ),
        (
            {"prompt": [U], "answers": ["a", "a", "b"], "scores": [1, 1, 0]},
            "ranking",
            Comparison("f:1", Q, ("a", "a", "b"), (1.0, 1.0, 0.0)),
        ),
    ],
)
def test_each_format_is_detected_and_converted(
    row: dict[str, Any], name: str, expected: Comparison | str
) -> None:
    raw = RawRow("f:1", row)
    assert resolve_format("auto", {}, [raw], where="f", formats=COMPARISON_FORMATS).format == name
    if isinstance(expected, str):
        with pytest.raises(MalformedRow, match=expected):
            convert(row)
    else:
        assert convert(row) == convert(row, name) == expected


def test_columns_give_other_names() -> None:
    row = {"question": "q", "good": "a", "bad": "b", "chosen": 0}
    names = {"prompt": "question", "chosen": "good", "rejected": "bad"}
    assert convert(row, columns=names) == pair("q")
    names = {"instruction": "question", "chosen": "good", "rejected": "bad"}
    assert convert(row, columns=names) == pair(Q)
    # Where a row has both, the first name counts.
    assert convert({"prompt": "q", "chosen": "a", "selected": "x", "rejected": "b"}) == pair("q")


def test_a_system_prompt_is_added_to_conversations_without_one() -> None:
    assert with_system_prompt(pair(Q), "s") == pair(SQ)
    assert with_system_prompt(pair(SQ), "t") == pair(SQ)
    assert with_system_prompt(pair("q"), "s") == pair("q")
    assert with_system_prompt(pair(Q), None) == pair(Q)
