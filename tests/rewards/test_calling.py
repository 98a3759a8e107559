"""Reward functions are called by the names of their parameters, in our form and in TRL's."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from hf_align.errors import UserError
from hf_align.rewards.calling import call, check_form

PROMPTS, COMPLETIONS = ["p1", "p2"], ["a", "bbb"]
ROWS = [{"answer": "a", "n": 1}, {"answer": "x"}]


def ours(prompts: Any, completions: Any, rows: Any) -> Any:
    return [(p, c, r["answer"]) for p, c, r in zip(prompts, completions, rows, strict=True)]


def swapped(completions: Any, prompts: Any, answer: Any) -> Any:
    return list(zip(prompts, completions, answer, strict=True))


def keywords_only(*, prompts: Any, completions: Any, answer: Any) -> Any:
    return swapped(completions, prompts, answer)


def everything(completions: Any, **kwargs: Any) -> Any:
    assert kwargs["n"] == [1, None] and "rows" not in kwargs
    return swapped(completions, kwargs["prompts"], kwargs["answer"])


def by_position(p: Any, c: Any, r: Any) -> Any:
    return ours(p, c, r)


async def later(prompts: Any, completions: Any, rows: Any) -> Any:
    return ours(prompts, completions, rows)


class Callable:
    def __call__(self, prompts: Any, completions: Any, rows: Any) -> Any:
        return ours(prompts, completions, rows)


FORMS = [ours, swapped, keywords_only, everything, by_position, later, Callable(), functools.partial(ours)]


@pytest.mark.parametrize("function", FORMS, ids=lambda form: getattr(form, "__name__", type(form).__name__))
def test_every_form_gets_the_same(function: Any) -> None:
    check_form(function, "key")
    assert call(function, "key", PROMPTS, COMPLETIONS, ROWS) == [("p1", "a", "a"), ("p2", "bbb", "x")]


def test_a_column_that_is_not_there_is_named() -> None:
    def score(completions: Any, solution: Any) -> Any:
        return [0.0 for _ in zip(completions, solution, strict=True)]

    check_form(score, "key")
    with pytest.raises(
        UserError, match=r"key: it wants 'solution'.* there are: prompts, completions, rows, answer, n"
    ):
        call(score, "key", PROMPTS, COMPLETIONS, ROWS)


@pytest.mark.parametrize("function", [lambda: 0, lambda a: 0, lambda a, b, c, d: 0, lambda prompts, rows: 0])
def test_what_cannot_be_called_is_refused(function: Any) -> None:
    with pytest.raises(UserError, match=r"key: found <lambda>.*expected function"):
        check_form(function, "key")


def test_what_a_function_does_to_its_lists_stays_with_it() -> None:
    def empties(prompts: Any, completions: Any, rows: Any) -> Any:
        completions[:] = [""] * len(completions)
        rows[0].clear()
        return completions

    call(empties, "key", PROMPTS, COMPLETIONS, ROWS)
    assert COMPLETIONS == ["a", "bbb"] and ROWS[0] == {"answer": "a", "n": 1}
