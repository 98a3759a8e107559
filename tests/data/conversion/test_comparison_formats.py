"""Which format the columns of compared answers fit, and where comparisons may be read."""

from __future__ import annotations

from typing import Any, get_args, get_type_hints

import pytest
from helpers.comparison_rows import HH, B, U, convert

from hf_align.config import DatasetConfig
from hf_align.data.conversion.detection import resolve_format
from hf_align.data.conversion.formats import (
    COMPARISON_FORMATS,
    FORMATS,
    LABELLED_FORMATS,
    UNPAIRED_FORMATS,
)
from hf_align.data.reading.raw import RawRow
from hf_align.errors import UserError


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
    assert (
        resolve_format("auto", {}, [RawRow("f:1", row)], where="f", formats=COMPARISON_FORMATS).format == name
    )


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
    assert resolve_format("messages", {}, [RawRow("f:1", row)], where="f").format == "messages"
    columns = {"completion": "chosen"}
    assert resolve_format("auto", columns, [RawRow("f:1", row)], where="f").format == "prompt_completion"
    other = {"prompt": "q", "completion": "a", "answers": ["a", "b"]}
    assert resolve_format("auto", {}, [RawRow("f:1", other)], where="f").format == "prompt_completion"


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
        convert(row)
    with pytest.raises(
        UserError, match=rf"^f: the format {found} gives one answer .* the stage sft; here are"
    ):
        convert(row, found)
    with pytest.raises(
        UserError, match=r"^f: the format ranking compares answers and is for the stages dpo and"
    ):
        resolve_format("ranking", {}, [RawRow("f:1", row)], where="f")


def test_columns_that_fit_nothing() -> None:
    with pytest.raises(
        UserError, match=r"fit no known format\. Found: q\. .*ranking: prompt, answers.*rejected: bad"
    ):
        convert({"q": 1})
    with pytest.raises(UserError, match=r"needs the column 'chosen', which is missing.*Did you mean 'chosn'"):
        convert({"prompt": 1, "chosn": 1, "rejected": 1}, "preference")


def test_every_format_can_be_named_in_a_recipe() -> None:
    assert not set(FORMATS) & set(COMPARISON_FORMATS)
    names = get_args(get_type_hints(DatasetConfig)["format"])
    assert sorted(names) == sorted(
        ["auto", *FORMATS, *COMPARISON_FORMATS, *LABELLED_FORMATS, *UNPAIRED_FORMATS]
    )
