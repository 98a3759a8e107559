"""Tables for the terminal, drawn by hand."""

from __future__ import annotations

import pytest

from hf_align.runs.columns import aligned


def test_text_to_the_left_and_numbers_to_the_right() -> None:
    table = [["name", "rows", "share"], ["a", "1,234", ""], ["longer", "5", "0.1"]]
    assert aligned(table, text_columns=1) == [
        "name     rows  share",
        "a       1,234",
        "longer      5    0.1",
    ]
    assert aligned(table) == [
        "name    rows   share",
        "a       1,234",
        "longer  5      0.1",
    ]


def test_rows_of_another_width_are_a_mistake() -> None:
    with pytest.raises((ValueError, IndexError)):
        aligned([["a", "b"], ["c"]])
