"""Formats of compared answers: detection, conversion, and rows that are refused with a reason and a kind."""

from __future__ import annotations

from typing import Any, get_args, get_type_hints

import pytest

from hf_align.config import DatasetConfig
from hf_align.data.comparison_conversion import EMPTY, IDENTICAL, NOT_SHARED, TIED
from hf_align.data.conversion import with_system_prompt
from hf_align.data.formats import COMPARISON_FORMATS, FORMATS, resolve_format
from hf_align.data.labelled import LABELLED_FORMATS
from hf_align.data.raw import MalformedRow, RawRow
from hf_align.errors import UserError
from hf_align.types import Comparison, Message


def _convert(row: dict[str, Any], name: str = "auto", columns: dict[str, str] | None = None) -> Comparison:
    raw = RawRow("f:1", row)
    _, convert = resolve_format(name, columns or {}, [raw], where="f", formats=COMPARISON_FORMATS)
    return convert(raw)


def _user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def _bot(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def _turn(sender: str, text: str) -> dict[str, str]:
    return {"from": sender, "value": text}


U, B = _user("q"), _bot("b")
S = {"role": "system", "content": "s"}
Q = (Message("user", "q"),)
SQ = (Message("system", "s"), *Q)
LONG = (Message("user", "p"), Message("assistant", "r"), *Q)


def _pair(prompt: Any, better: str = "a", worse: str = "b", margin: float | None = None) -> Comparison:
    return Comparison("f:1", prompt, (better, worse), (1.0, 0.0), margin)


@pytest.mark.parametrize(
    ("row", "name", "expected"),
    [
        # Strings stay strings; a system column, or turns anywhere, make a conversation.
        ({"prompt": "q ", "chosen": "a", "rejected": "b"}, "preference", _pair("q ")),
        ({"prompt": "", "chosen": "a", "rejected": "b"}, "preference", _pair("")),
        (
            {"prompt": "q", "selected": "a", "rejected": "b", "margin": 2},
            "preference",
            _pair("q", margin=2.0),
        ),
        ({"prompt": "q", "chosen": "a", "rejected": "b", "system": "s"}, "preference", _pair(SQ)),
        ({"prompt": "q", "chosen": "a", "rejected": "b", "system": ""}, "preference", _pair(Q)),
        ({"prompt": [U], "chosen": "a", "rejected": "b"}, "preference", _pair(Q)),
        ({"prompt": [U], "chosen": _bot("a"), "rejected": B}, "preference", _pair(Q)),
        ({"prompt": [U], "chosen": [_bot("a")], "rejected": [B]}, "preference", _pair(Q)),
        ({"prompt": [S, U], "chosen": [S, U, _bot("a")], "rejected": [B]}, "preference", _pair(SQ)),
        ({"prompt": "q", "chosen": [_bot("a")], "rejected": [B]}, "preference", _pair(Q)),
        ({"prompt": "q", "chosen": [S, U, _bot("a")], "rejected": [S, U, B]}, "preference", _pair(SQ)),
        ({"prompt": None, "chosen": [U, _bot("a")], "rejected": [U, B]}, "preference", _pair(Q)),
        (
            {"chosen": [_user("p"), _bot("r"), U, _bot("a")], "rejected": [_user("p"), _bot("r"), U, B]},
            "preference",
            _pair(LONG),
        ),
        ({"instruction": "q", "chosen": "a", "rejected": "b"}, "alpaca_preference", _pair(Q)),
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
                "rejected": [_bot("b")],
            },
            "alpaca_preference",
            _pair((Message("user", "u"), Message("assistant", "v"), Message("user", "x\ny"))),
        ),
        (
            {
                "conversations": [_turn("human", "q")],
                "chosen": _turn("gpt", "a"),
                "rejected": _turn("gpt", "b"),
            },
            "sharegpt_preference",
            _pair(Q),
        ),
        (
            {
                "conversations": [_turn("human", "p"), _turn("gpt", "r"), _turn("human", "q")],
                "chosen": "a",
                "rejected": [_turn("gpt", "b")],
                "system": None,
            },
            "sharegpt_preference",
            _pair(LONG),
        ),
        (
            {"conversations": [_turn("human", "q")], "system": "s", "chosen": "a", "rejected": "b"},
            "sharegpt_preference",
            _pair(SQ),
        ),
        (
            {
                "chosen": "\n\nHuman: p\n\nAssistant: r\n\nHuman: q\n\nAssistant: a\n\nmore",
                "rejected": "\n\nHuman: p\n\nAssistant: r\n\nHuman: q\n\nAssistant: b",
            },
            "hh",
            _pair(LONG, "a\n\nmore"),
        ),
        (
            {"selected": "s\n\nHuman: q\n\nAssistant: a", "rejected": "s\n\nHuman:q\n\nAssistant:b"},
            "hh",
            _pair(SQ),
        ),
        ({"chosen": "Human: q\n\nAssistant: a", "rejected": "Human: q\n\nAssistant: b"}, "hh", _pair(Q)),
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
            {"prompt": [U], "answers": ["a", [_bot("b")], "c"], "scores": [1, 2, 1], "margin": 0.5},
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
    assert resolve_format("auto", {}, [raw], where="f", formats=COMPARISON_FORMATS)[0] == name
    if isinstance(expected, str):
        with pytest.raises(MalformedRow, match=expected):
            _convert(row)
    else:
        assert _convert(row) == _convert(row, name) == expected


HH = "\n\nHuman: q\n\nAssistant: "


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
            {"chosen": [U, B], "rejected": [_user("z"), B]},
            NOT_SHARED,
            "share their first 0 turns",
        ),
        (
            "preference",
            {"chosen": [U, B, U, B], "rejected": [U, _bot("c")]},
            NOT_SHARED,
            "conversation 1 has 3",
        ),
        ("preference", {"chosen": [U, B, U, B], "rejected": [U, B]}, NOT_SHARED, "conversation 1 has 2"),
        ("preference", {"chosen": [_bot("a")], "rejected": [B]}, NOT_SHARED, "share no turn"),
        ("preference", {"chosen": [U, _user("x")], "rejected": [U, B]}, "", "answer 1 is a turn of the user"),
        (
            "preference",
            {"chosen": [U, B, _bot("a")], "rejected": [U, B, B]},
            "",
            "prompt ends with a turn of the",
        ),
        (
            "preference",
            {"prompt": [U], "chosen": [_user("z"), B], "rejected": "b"},
            NOT_SHARED,
            "not begin with",
        ),
        (
            "preference",
            {"prompt": [U], "chosen": [U, B, U, B], "rejected": "b"},
            NOT_SHARED,
            "one turn after",
        ),
        (
            "preference",
            {"prompt": "z", "chosen": [U, B], "rejected": [U, _bot("c")]},
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
            {"conversations": [_turn("human", "q"), _turn("gpt", "r")], "chosen": "a", "rejected": "b"},
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
        ("hh", {"chosen": HH + "a", "rejected": HH + "b" + HH + "c"}, NOT_SHARED, "conversation 2 has 3"),
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
    _, convert = resolve_format(name, {}, [RawRow("f:0", good)], where="f", formats=COMPARISON_FORMATS)
    with pytest.raises(MalformedRow, match=reason) as caught:
        convert(RawRow("f:1", row))
    assert caught.value.kind == kind


def test_columns_give_other_names() -> None:
    row = {"question": "q", "good": "a", "bad": "b", "chosen": 0}
    names = {"prompt": "question", "chosen": "good", "rejected": "bad"}
    assert _convert(row, columns=names) == _pair("q")
    names = {"instruction": "question", "chosen": "good", "rejected": "bad"}
    assert _convert(row, columns=names) == _pair(Q)
    # Where a row has both, the first name counts.
    assert _convert({"prompt": "q", "chosen": "a", "selected": "x", "rejected": "b"}) == _pair("q")


@pytest.mark.parametrize(
    ("row", "name"),
    [
        ({"prompt": "q", "chosen": HH + "a", "rejected": HH + "b"}, "preference"),
        ({"prompt": "q", "conversations": [U], "chosen": "a", "rejected": "b"}, "sharegpt_preference"),
        ({"prompt": "q", "instruction": "q", "chosen": "a", "rejected": "b"}, "alpaca_preference"),
        ({"prompt": "q", "chosen": "a", "rejected": "b", "messages": [U, B], "score": 1}, "preference"),
        ({"prompt": "q", "completions": [], "answers": []}, "ultrafeedback"),
    ],
)
def test_detection_prefers_the_richer_columns(row: dict[str, Any], name: str) -> None:
    assert resolve_format("auto", {}, [RawRow("f:1", row)], where="f", formats=COMPARISON_FORMATS)[0] == name


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "q", "chosen": "a", "rejected": "b"}, "the format preference"),
        ({"chosen": HH + "a", "rejected": HH + "b"}, "the format hh"),
        ({"conversations": [U], "selected": "a", "rejected": "b"}, "the format sharegpt_preference"),
        ({"prompt": "q", "answers": []}, "the format ranking"),
        ({"instruction": "q", "completions": []}, "the format ultrafeedback"),
        (
            {"messages": [U, B], "chosen": [], "rejected": []},
            "preference.*messages reads .*`format: messages`",
        ),
    ],
)
def test_fine_tuning_on_comparisons_names_the_stages_that_take_them(
    row: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=rf"^f: .*{message}") as caught:
        resolve_format("auto", {}, [RawRow("f:1", row)], where="f", formats=FORMATS)
    assert "is for the stages dpo and reward; here are read: messages, sharegpt" in str(caught.value)


def test_what_stands_beside_compared_answers_can_be_asked_for() -> None:
    row = {"messages": [U, B], "prompt": "q", "chosen": "a", "rejected": "b", "answers": [1]}
    assert resolve_format("messages", {}, [RawRow("f:1", row)], where="f")[0] == "messages"
    columns = {"completion": "chosen"}
    assert resolve_format("auto", columns, [RawRow("f:1", row)], where="f")[0] == "prompt_completion"
    other = {"prompt": "q", "completion": "a", "answers": ["a", "b"]}
    assert resolve_format("auto", {}, [RawRow("f:1", other)], where="f")[0] == "prompt_completion"


@pytest.mark.parametrize(
    ("row", "found"),
    [
        ({"instruction": "q", "output": "a"}, "alpaca"),
        ({"messages": [U, B]}, "messages"),
        ({"text": "t"}, "text"),
    ],
)
def test_comparing_on_plain_answers_names_the_stage_that_takes_them(row: dict[str, Any], found: str) -> None:
    with pytest.raises(
        UserError, match=rf"^f: the rows are in the format {found}\. .* is for the stage sft;"
    ):
        _convert(row)
    with pytest.raises(
        UserError, match=rf"^f: the format {found} gives one answer .* the stage sft; here are"
    ):
        _convert(row, found)
    with pytest.raises(
        UserError, match=r"^f: the format ranking compares answers and is for the stages dpo and"
    ):
        resolve_format("ranking", {}, [RawRow("f:1", row)], where="f")


def test_columns_that_fit_nothing() -> None:
    with pytest.raises(
        UserError, match=r"fit no known format\. Found: q\. .*ranking: prompt, answers.*rejected: w"
    ):
        _convert({"q": 1})
    with pytest.raises(UserError, match=r"needs the column 'chosen', which is missing.*Did you mean 'chosn'"):
        _convert({"prompt": 1, "chosn": 1, "rejected": 1}, "preference")


def test_a_system_prompt_is_added_to_conversations_without_one() -> None:
    assert with_system_prompt(_pair(Q), "s") == _pair(SQ)
    assert with_system_prompt(_pair(SQ), "t") == _pair(SQ)
    assert with_system_prompt(_pair("q"), "s") == _pair("q")
    assert with_system_prompt(_pair(Q), None) == _pair(Q)


def test_every_format_can_be_named_in_a_recipe() -> None:
    assert not set(FORMATS) & set(COMPARISON_FORMATS)
    names = get_args(get_type_hints(DatasetConfig)["format"])
    assert sorted(names) == sorted(["auto", *FORMATS, *COMPARISON_FORMATS, *LABELLED_FORMATS])
