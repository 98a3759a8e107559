"""Answers against the right one: what counts as equal, where it is looked for, what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_align.errors import UserError
from hf_align.rewards.verifiable.answers import (
    chosen_letter,
    exact_answer,
    inside,
    multiple_choice,
    normalized,
    numeric,
)


@pytest.mark.parametrize(
    ("said", "right", "score"),
    [
        ("The total is 72.", "72", 1.0),
        ("48 + 24 = 72", "Natalia sold 48/2 = 24.\n#### 72", 1.0),
        ("72 clips in April, so 73 in all", "72", 0.0),
        ("\\boxed{\\frac{1}{2}}", "0.5", 1.0),
        ("It is 1,250 dollars", "1250", 1.0),
        ("-3", "3", 0.0),
        ("I do not know", "3", 0.0),
        ("<think>it could be 5</think> 4", "4", 1.0),
        ("4 <think>or 5", "5", 1.0),
    ],
)
def test_numbers_are_compared_as_numbers(said: str, right: str, score: float) -> None:
    assert numeric([said], [{"answer": right}]) == [score]


@given(st.integers(-(10**6), 10**6), st.integers(-(10**6), 10**6))
def test_a_whole_number_equals_itself_alone(one: int, other: int) -> None:
    rows: list[dict[str, Any]] = [{"answer": one}, {"answer": one}]
    found = numeric([f"The answer is {one}.", f"The answer is {other}."], rows)
    assert found == [1.0, float(one == other)]


def test_an_answer_that_is_no_number_is_refused() -> None:
    with pytest.raises(UserError, match="numeric: found the answer 'blue', expected a number"):
        numeric(["3"], [{"answer": "blue"}])


@pytest.mark.parametrize(
    ("row", "column"),
    [
        ({"answer": "Oslo"}, None),
        ({"solution": "Oslo"}, None),
        ({"ground_truth": "Oslo"}, None),
        ({"reward_model": {"ground_truth": "Oslo"}}, None),
        ({"answer": "Rome", "city": ["Bergen", "Oslo"]}, "city"),
    ],
)
def test_the_right_answer_is_found_in_its_column(row: dict[str, Any], column: str | None) -> None:
    assert exact_answer(["oslo."], [row], column=column) == [1.0]
    assert exact_answer(["Paris"], [row], column=column) == [0.0]


def test_a_row_without_the_answer_names_its_columns() -> None:
    with pytest.raises(
        UserError, match=r"exact_answer: the row has no column answer or .* found: prompt, city"
    ):
        exact_answer(["a"], [{"prompt": "p", "city": "Oslo"}])
    with pytest.raises(UserError, match="no column town with the right answer"):
        exact_answer(["a"], [{"answer": "b"}], column="town")


def test_strict_counts_every_character_but_the_space_around() -> None:
    rows = [{"answer": "Oslo"}] * 3
    assert exact_answer([" Oslo\n", "oslo", "Oslo."], rows, strict=True) == [1.0, 0.0, 0.0]


def test_only_what_stands_in_the_tag_is_compared() -> None:
    rows = [{"answer": "4"}] * 4
    said = ["<answer>4</answer>", "<answer>3</answer> <answer> 4 </answer>", "4", "<answer>4"]
    assert exact_answer(said, rows, tag="answer") == [1.0, 1.0, 0.0, 0.0]
    assert numeric(said, rows, tag="answer") == [1.0, 1.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("said", "letter"),
    [
        ("B", "B"),
        ("B.", "B"),
        ("The answer is (C).", "C"),
        ("Answer: D", "D"),
        ("**Answer:** A", "A"),
        ("Not (A) but (B)", "B"),
        ("答案是C", "C"),
        ("A. red\nB. blue", None),
        ("A dog ran.", None),
        ("the answer is a dog", None),
        ("", None),
    ],
)
def test_the_letter_that_an_answer_settles_on(said: str, letter: str | None) -> None:
    assert chosen_letter(said) == letter


def test_choices_by_letter_or_number() -> None:
    rows: list[dict[str, Any]] = [{"answer": "B"}, {"answer": 1}, {"answer": "(b)"}, {"answer": 0}]
    assert multiple_choice(["(B)"] * 4, rows) == [1.0, 1.0, 1.0, 0.0]
    with pytest.raises(UserError, match="found the answer 'blue', expected a letter"):
        multiple_choice(["B"], [{"answer": "blue"}])


@given(st.text())
def test_one_spelling_is_stable(text: str) -> None:
    assert normalized(normalized(text)) == normalized(text)


def test_the_last_tag_that_is_closed_counts() -> None:
    assert inside("<a>1</a><a>2", "a") == "1"
    assert inside("</a><a>", "a") is None
    assert inside("<think>no</think>yes", None) == "yes"
