"""The mask as people see it: whole characters, exact counts, nothing from the data that could act."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.shown_tokens import BYTES, Marks, make_row

from hf_align.reporting.mask_view import (
    choose_rows,
    mask_sample,
    render_html,
    render_terminal,
    sample_view,
    standings,
)
from hf_align.types import ComparisonRow


def test_a_sample_has_one_entry_a_token():
    sample = mask_sample(make_row("Q: 中? 好", trained="好"), BYTES)
    assert sample["source"] == "a.jsonl:1"
    assert sample["tokens"] == [
        *([letter, False] for letter in "Q: "),
        *[["中", False], ["", False], ["", False]],
        *[["?", False], [" ", False]],
        *[["好", True], ["", True], ["", True]],
    ]


def test_a_character_that_is_trained_in_part_counts_as_trained():
    row = make_row("a中", trained="中")
    row.target_mask[1] = False
    assert mask_sample(row, BYTES)["tokens"] == [["a", False], ["", False], ["中", True], ["", True]]
    marks = Marks(str(sample_view(mask_sample(row, BYTES))["html"]))
    assert (marks.plain, marks.marked, marks.tokens) == ("a", "中", 2)


def test_the_page_shows_counts_source_and_data_report():
    report = {"sources": [{"name": "a.jsonl", "read": 4321, "kept": 4320, "tokens": 9, "target_tokens": 3}]}
    page = render_html([make_row("ab", trained="b"), make_row("abc", trained="bc")], BYTES, report)
    assert "a.jsonl:1" in page
    assert "3 of their 5 tokens trained" in page
    assert "4,321" in page


def test_rows_are_chosen_evenly_or_from_the_start_of_a_stream():
    assert choose_rows(list(range(10)), 2) == [2, 7]
    assert choose_rows(list(range(3)), 3) == [0, 1, 2]
    assert choose_rows(list(range(3)), 9) == [0, 1, 2]
    assert choose_rows([], 3) == []
    assert choose_rows(iter(range(100)), 3) == [0, 1, 2]


@pytest.mark.parametrize("broken", [None, 3, {}, {"tokens": 1}, {"tokens": [1, [2], ["a", 1, 2], None]}])
def test_broken_samples_are_empty(broken):
    view = sample_view(broken)
    assert {key: view[key] for key in ("source", "tokens", "trained", "html", "answers")} == {
        **{"source": "", "tokens": 0, "trained": 0, "html": "", "answers": []},
    }


def compared(
    prefix: str, *answers: str, scores: tuple[float, ...], margin: float | None = None
) -> ComparisonRow:
    """A tree over bytes: the last byte before each answer begins its branch, and the answer is trained."""
    branches = tuple(make_row(prefix[-1] + answer, trained=answer) for answer in answers)
    return ComparisonRow(
        make_row(prefix[:-1]).input_ids, branches, np.array(scores), margin, source="a.jsonl:1"
    )


def test_compared_answers_show_what_they_share_once():
    row = compared("Q: 中?\n", "yes 好", "no", scores=(0.0, 2.0), margin=0.5)
    sample = mask_sample(row, BYTES)
    assert "".join(text for text, _ in sample["tokens"]) == "Q: 中?"
    assert not any(trained for _, trained in sample["tokens"])
    assert [answer["score"] for answer in sample["answers"]] == [0.0, 2.0]
    assert sample["answers"][1]["tokens"] == [["\n", False], ["n", True], ["o", True]]
    assert sample["margin"] == 0.5
    view = sample_view(sample)
    # 7 shared bytes; a line end with 7 and with 2 bytes of answer.
    assert (view["tokens"], view["trained"]) == (18, 9)
    assert view["shared"] == "7 tokens shared, margin 0.5"
    assert [answer["title"] for answer in view["answers"]] == [
        "Answer 1: worse (score 0; 7 of 8 tokens trained)",
        "Answer 2: better (score 2; 2 of 3 tokens trained)",
    ]
    assert Marks(str(view["answers"][1]["html"])).marked == "no"


def test_compared_answers_in_the_terminal():
    row = compared("Q\n", "yes", "no", scores=(1.0, 0.0))
    assert render_terminal(row, BYTES) == (
        "Q\n"
        "-- Answer 1: better (score 1; 3 of 4 tokens trained)\n"
        "↵\n⟦yes⟧\n"
        "-- Answer 2: worse (score 0; 2 of 3 tokens trained)\n"
        "↵\n⟦no⟧\n"
    )
    assert "\x1b[1;36myes" in render_terminal(row, BYTES, color=True)


def test_compared_answers_on_the_page():
    page = render_html([compared("Q\n", "<b>", "no", scores=(1.0, 0.0), margin=2.0)], BYTES, None)
    assert page.count("Answer 1: better (score 1; 3 of 4 tokens trained)") == 1
    assert page.count("1 tokens shared, margin 2") == 1
    assert "<b>" not in page
    assert "5 of their 8 tokens trained" in page


def test_how_answers_compare_in_words():
    assert standings([1.0, 0.0]) == ["better", "worse"]
    assert standings([0.0, 1.0]) == ["worse", "better"]
    assert standings([1.0, 1.0]) == ["tied", "tied"]
    assert standings([3.0, 1.0, 1.0, 0.0]) == [
        "beats 3",
        "beats 1, ties with 1, loses to 1",
        "beats 1, ties with 1, loses to 1",
        "loses to 3",
    ]


@pytest.mark.parametrize("broken", [3, [None], [{"score": "x"}, {"tokens": [[1]]}, 4]])
def test_broken_answers_of_a_record_are_shown_as_far_as_they_go(broken):
    view = sample_view({"source": "a", "tokens": [["x", True]], "answers": broken})
    assert (view["tokens"], view["trained"]) == (1, 1)
