"""FineWeb's rules as in the paper and as in the code, and rules on lines."""

from __future__ import annotations

import pytest

from hf_align.corpus import fineweb
from hf_align.corpus.document import Document
from hf_align.corpus.rules.fineweb import LINES, line_rules

LONG = "This line of prose has more than thirty characters and ends well."


def test_lines_that_end_as_prose_does() -> None:
    lines = [f"menu entry number {n} with more than thirty characters" for n in range(9)]
    # 1 of 10 lines has an end.
    (found,) = fineweb("\n".join([LONG, *lines]))
    assert found == ("terminal_lines", pytest.approx(0.1), 0.12)


def test_paper_and_code_differ_by_ten_on_repeated_lines() -> None:
    lines = [f"{LONG} Number {n}." for n in range(40)]
    text = "\n".join([*lines, lines[0]])  # 1 of 41 lines: 2.4 % of the characters
    assert fineweb(text) == []
    assert [reason.rule for reason in fineweb(text, preset="code")] == ["duplicate_line_characters"]


def test_a_line_of_thirty_characters_is_short_in_the_code_alone() -> None:
    lines = [f"{'x' * 28}{n}." for n in range(9)]
    assert {len(line) for line in lines} == {30}
    text = "\n".join([*lines, LONG])
    assert "short_lines" not in {reason.rule for reason in fineweb(text)}
    assert "short_lines" in {reason.rule for reason in fineweb(text, preset="code")}


def test_lines_of_no_text_go_and_too_many_of_them_take_the_document() -> None:
    body = "\n".join(f"{LONG} {n}" for n in range(30))
    verdict = line_rules(Document("d", f"{body}\n3 likes\n1.234\nHome\nBUY NOW OR NEVER"))
    assert verdict.keep and verdict.text == body
    assert verdict.edits == {
        "counter_lines": 1,
        "numeric_lines": 1,
        "lines_of_a_word": 1,
        "uppercase_lines": 1,
    }
    gone = line_rules(Document("d", f"{LONG}\nBUY NOW OR NEVER"), LINES)
    assert (gone.keep, gone.reason) == (False, "removed_words")
