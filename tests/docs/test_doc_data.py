"""The rows that docs/data.md shows are read as the format under whose heading they stand."""

from __future__ import annotations

import json
import re

import pytest
from helpers.documentation import blocks, read

from hf_align.config import DatasetConfig
from hf_align.config.fields import specs_of
from hf_align.data.conversion.detection import resolve_format
from hf_align.data.conversion.formats import (
    COMPARISON_FORMATS,
    FORMATS,
    LABELLED_FORMATS,
    UNPAIRED_FORMATS,
)
from hf_align.data.reading.raw import RawRow
from hf_align.data.reading.sources import READERS
from hf_align.types import Comparison, Example, LabelledAnswer, LabelledText

PAGE = read("docs/data.md")
TABLES = [
    (FORMATS, Example),
    (COMPARISON_FORMATS, Comparison),
    (LABELLED_FORMATS, LabelledText),
    (UNPAIRED_FORMATS, LabelledAnswer),
]


def shown() -> dict[str, list[dict[str, object]]]:
    """The rows below each heading that names a format."""
    lines = PAGE.splitlines()
    found: dict[str, list[dict[str, object]]] = {}
    for block in blocks(PAGE):
        if block.language == "jsonl":
            heading = next(line for line in reversed(lines[: block.line - 1]) if line.startswith("#"))
            name = re.fullmatch(r"### `(\w+)`", heading)
            assert name is not None, f"docs/data.md:{block.line}: rows that no format is named for"
            found[name[1]] = [json.loads(row) for row in block.text.splitlines()]
    return found


@pytest.mark.parametrize(("table", "kind"), TABLES, ids=lambda value: getattr(value, "__name__", ""))
def test_every_format_has_rows_that_are_recognised(table, kind) -> None:
    rows_of = shown()
    for name in table:
        assert name in rows_of, f"docs/data.md has no rows of the format {name}"
        rows = [RawRow(f"{name}:{n}", row) for n, row in enumerate(rows_of[name], start=1)]
        for row in rows:
            convert = resolve_format("auto", {}, [row], where="docs/data.md", formats=table)
            assert convert.format == name
            assert isinstance(convert(row), kind)


def test_nothing_else_is_shown() -> None:
    assert set(shown()) == {name for table, _ in TABLES for name in table}


def test_the_keys_of_an_entry_and_the_types_of_files_are_all_there() -> None:
    for key in specs_of(DatasetConfig):
        assert f"`{key}`" in PAGE, key
    for suffix in READERS:
        assert f"`{suffix}`" in PAGE, suffix
