"""Rows of compared answers that are refused, with a reason and a kind."""

from __future__ import annotations

from typing import Any

import pytest
from helpers.comparison_rows import HH, B, S, U, bot, turn, user

from hf_align.data.conversion.comparisons import EMPTY, IDENTICAL, NOT_SHARED, TIED
from hf_align.data.conversion.detection import resolve_format
from hf_align.data.conversion.formats import COMPARISON_FORMATS
from hf_align.data.reading.raw import MalformedRow, RawRow


@pytest.mark.parametrize(
    ("name", "row", "kind", "reason"),
    [
        ("preference", {"prompt": "q", "chosen": "a"}, "", "has no 'rejected'"),
        ("preference", {"prompt": "q", "chosen": "a", "rejected": " \n"}, EMPTY, "answer 2 is empty"),
        ("preference", {"prompt": "q", "chosen": "a", "rejected": None}, "", "expected a string, found null"),
        ("preference", {"prompt": "q", "chosen": "a", "rejected": "a"}, IDENTICAL, "answer 2 is the same"),
        ("preference", {"chosen": "a", "rejected": "b"}, "", "has no prompt"),
        ("preference", {"chosen": [U, B], "rejected": "b"}, NOT_SHARED, "only some of the answers"),
        ("preference", {"chosen": [U, B], "rejected": [U, B]}, IDENTICAL, "conversations are the same"),
        (
            "preference",
            {"chosen": [U, B], "rejected": [user("z"), B]},
            NOT_SHARED,
            "share their first 0 turns",
        ),
        (
            "preference",
            {"chosen": [U, B, U], "rejected": [U, bot("c")]},
            NOT_SHARED,
            "conversation 1 has 2",
        ),
        ("preference", {"chosen": [U, B, U, B], "rejected": [U, B]}, NOT_SHARED, "conversation 1 has 2"),
        ("preference", {"chosen": [bot("a")], "rejected": [B]}, NOT_SHARED, "share no turn"),
        ("preference", {"chosen": [U, user("x")], "rejected": [U, B]}, "", "answer 1 is a turn of the user"),
        (
            "preference",
            {"chosen": [U, B, bot("a")], "rejected": [U, B, B]},
            "",
            "prompt ends with a turn of the",
        ),
        (
            "preference",
            {"prompt": [U], "chosen": [user("z"), B], "rejected": "b"},
            NOT_SHARED,
            "not begin with",
        ),
        (
            "preference",
            {"prompt": [U], "chosen": [U, B, U], "rejected": "b"},
            NOT_SHARED,
            "one turn after the prompt, or several that the assistant begins and ends, found 2",
        ),
        (
            "preference",
            {"prompt": "z", "chosen": [U, B], "rejected": [U, bot("c")]},
            NOT_SHARED,
            "is the prompt",
        ),
        ("preference", {"prompt": [], "chosen": [B], "rejected": [B]}, "", "prompt: empty conversation"),
        (
            "preference",
            {"prompt": 3, "chosen": "a", "rejected": "b"},
            "",
            "prompt: expected a string, found a num",
        ),
        (
            "preference",
            {"prompt": [S, U], "system": "t", "chosen": "a", "rejected": "b"},
            "",
            "a system column and",
        ),
        (
            "preference",
            {"prompt": "q", "chosen": "a", "rejected": "b", "margin": "1"},
            "",
            "margin: expected a number, found a string",
        ),
        (
            "alpaca_preference",
            {"instruction": "", "chosen": "a", "rejected": "b"},
            "",
            "instruction and input",
        ),
        (
            "sharegpt_preference",
            {"conversations": [turn("human", "q"), turn("gpt", "r")], "chosen": "a", "rejected": "b"},
            "",
            "prompt ends with a turn of the assistant",
        ),
        (
            "sharegpt_preference",
            {"conversations": [], "chosen": "a", "rejected": "b"},
            "",
            "empty conversation",
        ),
        ("hh", {"chosen": HH + "a", "rejected": HH}, EMPTY, "answer 2 is empty"),
        ("hh", {"chosen": HH + "a", "rejected": HH + "a "}, IDENTICAL, "conversations are the same"),
        ("hh", {"chosen": HH + "a", "rejected": "no marks"}, "", "neither Human: nor Assistant:"),
        (
            "preference",
            {"prompt": [U], "chosen": [B, U, bot(" ")], "rejected": "b"},
            EMPTY,
            "answer 1 is empty",
        ),
        ("hh", {"chosen": HH + "a", "rejected": [U, B]}, "", "rejected: expected a string, found a list"),
        (
            "ultrafeedback",
            {"prompt": "q", "completions": [{"text": "a", "score": 1}]},
            "",
            "at least 2 answers",
        ),
        (
            "ultrafeedback",
            {"prompt": "q", "completions": [{"text": "a", "score": 1}] * 2},
            TIED,
            "no answer is",
        ),
        ("ultrafeedback", {"prompt": "q", "completions": [{"text": "a"}] * 2}, "", "has neither score nor"),
        ("ultrafeedback", {"prompt": "q", "completions": [{"score": 1}] * 2}, "", "has neither response nor"),
        ("ultrafeedback", {"prompt": "q", "completions": ["a", "b"]}, "", "completion 1: expected an object"),
        (
            "ultrafeedback",
            {"prompt": "q", "completions": {}},
            "",
            "completions: expected a list, found an object",
        ),
        ("ranking", {"prompt": "q", "answers": ["a", "b"], "scores": [2, 2]}, TIED, "no answer is better"),
        ("ranking", {"prompt": "q", "answers": ["a", "a", "b"]}, IDENTICAL, "answer 2 is the same"),
        ("ranking", {"prompt": "q", "answers": ["a", " ", "b"]}, EMPTY, "answer 2 is empty"),
        ("ranking", {"prompt": "q", "answers": ["a"]}, "", "expected at least 2 answers, found 1"),
        (
            "ranking",
            {"prompt": "q", "answers": ["a", "b"], "scores": [1]},
            "",
            "scores: expected 2, .* found 1",
        ),
        (
            "ranking",
            {"prompt": "q", "answers": ["a", "b"], "scores": [1, True]},
            "",
            "score 2: expected a number",
        ),
        ("ranking", {"prompt": "q", "answers": ["a", "b"], "scores": [1, float("nan")]}, "", "finite number"),
        ("ranking", {"prompt": "q", "answers": ["a", "b"], "scores": [1, 10**400]}, "", "finite number"),
    ],
)
def test_rows_that_are_malformed(name: str, row: dict[str, Any], kind: str, reason: str) -> None:
    good = {column: None for column in COMPARISON_FORMATS[name].required}
    convert = resolve_format(name, {}, [RawRow("f:0", good)], where="f", formats=COMPARISON_FORMATS)
    with pytest.raises(MalformedRow, match=reason) as caught:
        convert(RawRow("f:1", row))
    assert caught.value.kind == kind
