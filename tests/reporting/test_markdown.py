"""Markdown from any text: nothing of it is read as markup."""

from __future__ import annotations

import html
import re

from hypothesis import given, settings
from hypothesis import strategies as st

from hf_align.reporting.markdown import code, inline, listed, table


def test_a_table() -> None:
    assert table(["a", "b|c"], [["x", "1"]], numbers=True) == "| a | b\\|c |\n| --- | ---: |\n| x | 1 |"
    assert table(["a"], []) == "| a |\n| --- |"


@given(st.text(alphabet="ab `*_[]<>|\\\n", max_size=20))
@settings(max_examples=60, deadline=None)
def test_text_stays_text(text: str) -> None:
    flat = " ".join(text.split())
    assert re.sub(r"\\(.)", r"\1", inline(text)) == flat
    assert "\n" not in inline(text) + code(text)
    fence = re.match("`+", code(text))
    assert fence is not None and fence[0] not in re.findall("`+", flat)
    assert html.unescape(flat) == flat


def test_lists() -> None:
    assert [listed(items) for items in (["a"], ["a", "b"], ["a", "b", "c"])] == ["a", "a and b", "a, b and c"]
