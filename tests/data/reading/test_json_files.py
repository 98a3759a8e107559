"""JSON and JSON Lines, row by row with their lines, and what breaks a row or the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_align.data.reading.json_files import read_json, read_jsonl
from hf_align.data.reading.raw import RawRow
from hf_align.errors import UserError


def rows(folder: Path, content: bytes | str, name: str = "a.json") -> list[RawRow]:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    read = read_jsonl if name.endswith("l") else read_json
    return [RawRow(row.place.rpartition("a.json")[2], row.values, row.problem) for row in read(path)]


def test_a_broken_line_costs_only_itself(tmp_path: Path) -> None:
    content = b'\xef\xbb\xbf{"a": 1}\r\n\n{"a": \n{"a": "\xff"}\n[1]\n{"a": "x\xe2\x80\xa8y"}'
    found = rows(tmp_path, content, "a.jsonl")
    assert [row.place for row in found] == ["l:1", "l:3", "l:4", "l:5", "l:6"]
    assert found[0].values == {"a": 1} and found[4].values == {"a": "x\u2028y"}
    assert found[1].problem.startswith("broken JSON: ")
    assert found[2].problem == "not valid UTF-8: byte 0xFF at byte 8 of the line"
    assert found[3].problem == "expected an object with named columns, found a list"


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ('[\n{"a": 1},\n\n{"a": 2}\n]', [(":2", {"a": 1}), (":4", {"a": 2})]),
        ('{"version": 1,\n "data": [{"a": 1}, {"a": 2}]}', [(":2", {"a": 1}), (":2", {"a": 2})]),
        ('\n{"a": 1, "data": "no table"}', [(":2", {"a": 1, "data": "no table"})]),
        ('{"a": 1}\n{"a": 2}', [(":1", {"a": 1}), (":2", {"a": 2})]),
        ("[]", []),
        (" \n", []),
    ],
)
def test_the_forms_of_a_json_file(tmp_path: Path, content: str, found: list[Any]) -> None:
    assert [(row.place, row.values) for row in rows(tmp_path, content)] == found


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('[{"a": 1},\n{"a": ', r"a\.json:2: broken JSON"),
        ('[{"a": 1} {"a": 2}]', "expected ',' or ']' after a row, found '{'"),
        ('[{"a": 1}] x', "expected the end of the file after the array"),
        ("text", "expected an array or an object, found 't'"),
        ("{", r"a\.json:1: broken JSON"),
        (b"\xff\xfe[\x00", "encoded as UTF-16 or UTF-32"),
    ],
)
def test_a_file_that_cannot_be_read(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        rows(tmp_path, content)


VALUES = st.dictionaries(
    st.text(max_size=4), st.integers() | st.text(max_size=6) | st.none(), min_size=1, max_size=3
)


@given(st.lists(VALUES, max_size=5), st.sampled_from([None, 1]))
@settings(max_examples=40, deadline=None)
def test_what_json_writes_is_read(
    tmp_path_factory: pytest.TempPathFactory, values: list[Any], indent: Any
) -> None:
    folder = tmp_path_factory.mktemp("json")
    assert [row.values for row in rows(folder, json.dumps(values, indent=indent))] == values
    lines = "".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values)
    assert [row.values for row in rows(folder, lines, "a.jsonl")] == values
