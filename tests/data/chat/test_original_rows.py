"""Rows as they stand in their files, found by place."""

from __future__ import annotations

import json
from pathlib import Path

from hf_align.config import DatasetConfig
from hf_align.data.chat.prompts import original_rows


def test_all_columns_of_the_rows_that_are_asked_for(tmp_path: Path) -> None:
    paths = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    for path in paths:
        path.write_text("".join(json.dumps({"text": f"{path.stem}{i}", "n": i}) + "\n" for i in range(3)))
    places = [f"{paths[0]}:2", f"{paths[1]}:3", "elsewhere:1"]
    found = original_rows([DatasetConfig(str(path)) for path in paths], places)
    assert found == {places[0]: {"text": "a1", "n": 1}, places[1]: {"text": "b2", "n": 2}}


def test_reading_ends_when_all_are_found(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"n": 1}\n')
    missing = DatasetConfig(str(tmp_path / "missing.jsonl"))
    assert original_rows([DatasetConfig(str(path)), missing], []) == {}
