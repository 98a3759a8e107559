"""Labelled answers: every form that a row can have, and what is wrong with one."""

from __future__ import annotations

from typing import Any

import pytest
from helpers.comparison_rows import SQ, B, Q, S, U, bot, turn

from hf_align.data.conversion.detection import resolve_format
from hf_align.data.conversion.formats import UNPAIRED_FORMATS
from hf_align.data.reading.raw import MalformedRow, RawRow
from hf_align.errors import UserError
from hf_align.types import LabelledAnswer
from hf_align.types.examples import from_stored


def convert(row: dict[str, Any], columns: dict[str, str] | None = None) -> LabelledAnswer:
    raw = RawRow("f:1", row)
    found = resolve_format("auto", columns or {}, [raw], where="f", formats=UNPAIRED_FORMATS)
    return found(raw)


@pytest.mark.parametrize(
    ("row", "prompt"),
    [
        ({"prompt": "q", "completion": "b", "label": True}, "q"),
        ({"prompt": [U], "completion": [B], "label": True}, Q),
        ({"prompt": [U], "completion": B, "label": 1}, Q),
        ({"prompt": [U], "completion": "b", "label": 1.0}, Q),
        ({"prompt": "q", "completion": [B], "label": True}, Q),
        ({"prompt": "q", "completion": "b", "label": True, "system": "s"}, SQ),
        ({"messages": [S, U, B], "label": True}, SQ),
        ({"conversations": [turn("human", "q"), turn("gpt", "b")], "label": True}, Q),
    ],
)
def test_forms(row: dict[str, Any], prompt: Any) -> None:
    expected = LabelledAnswer("f:1", prompt, "b", True)
    assert convert(row) == expected
    assert convert(row | {"label": False}).desirable is False
    assert from_stored("f:1", *expected.stored()) == expected


def test_columns_may_have_other_names() -> None:
    row = {"prompt": "q", "completion": "b", "kto_tag": False}
    assert convert(row, {"label": "kto_tag"}) == LabelledAnswer("f:1", "q", "b", False)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"prompt": "q", "completion": "b", "label": "yes"}, "label: expected true"),
        ({"prompt": "q", "completion": "b", "label": 2}, "label: expected true"),
        ({"prompt": "q", "completion": "b", "label": None}, "label: expected true"),
        ({"prompt": "q", "completion": " ", "label": True}, "empty completion"),
        ({"prompt": [U], "completion": [B, U], "label": True}, "one turn of the assistant"),
        ({"prompt": [U, B], "completion": [B], "label": True}, "ends with a turn of the assistant"),
        ({"messages": [U], "label": True}, "expected the assistant's answer"),
        ({"messages": [B], "label": True}, "no turn before the answer"),
        ({"messages": [U, bot("")], "label": True}, "empty answer"),
    ],
)
def test_wrong_rows(row: dict[str, Any], words: str) -> None:
    with pytest.raises(MalformedRow, match=words):
        convert(row)


def test_pairs_are_told_what_to_do() -> None:
    with pytest.raises(UserError, match="a row for each answer"):
        convert({"prompt": "q", "chosen": "a", "rejected": "b"})


def test_rows_without_a_label_are_refused() -> None:
    with pytest.raises(UserError, match="prompt_completion"):
        convert({"prompt": "q", "completion": "b"})
