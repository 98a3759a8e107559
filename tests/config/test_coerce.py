"""One value against its option: what passes, what is converted, and the words for what does not fit."""

from __future__ import annotations

import math
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_align.config.coerce import MAX_INT, coerce
from hf_align.config.fields import Mismatch, Option, Spec


def spec(hint: Any, **declared: Any) -> Spec:
    return Spec("key", hint, Option("…", **declared), None, True)


@pytest.mark.parametrize(
    ("hint", "value", "result"),
    [
        (float, 1, 1.0),
        (int, 3, 3),
        (bool, False, False),
        (str | None, None, None),
        (list[str], ("a", "b"), ["a", "b"]),
        (list[float], [1, 2.5], [1.0, 2.5]),
        (dict[str, int | float], {"a": 1, "b": 0.5}, {"a": 1, "b": 0.5}),
        (Literal["yes", "no"] | list[str], "no", "no"),
        (Literal["yes", "no"] | list[str], ["maybe"], ["maybe"]),
    ],
)
def test_what_passes(hint: Any, value: Any, result: Any) -> None:
    found = coerce(value, spec(hint))
    assert found == result and type(found) is type(result)


@pytest.mark.parametrize(
    ("hint", "value", "message"),
    [
        (int, True, "found true, expected a whole number."),
        (int, 1.0, "found the number 1, expected a whole number."),
        (int, MAX_INT + 1, "(too large), expected"),
        (float, 2**53 + 1, "(too large), expected"),
        (float, math.nan, "(not finite), expected a number."),
        (bool, 1, "expected true or false."),
        (bool, "true", "found the text 'true', expected true or false."),
        (str, "\ud800", "not valid Unicode"),
        (str, "a\0b", "character of number 0"),
        (str, None, "found nothing (null), expected text."),
        (Literal["cosine", "linear"], "cosin", "Did you mean 'cosine'?"),
        (list[Literal["cosine"]], ["cosinus"], "Did you mean 'cosine'?"),
        (list[str], ["a", 3], "found the number 3, expected a list of text."),
        (int | None, "x", "expected a whole number or null."),
    ],
)
def test_what_does_not(hint: Any, value: Any, message: str) -> None:
    with pytest.raises(Mismatch) as caught:
        coerce(value, spec(hint))
    assert message in str(caught.value)


def test_one_value_for_a_list_of_one() -> None:
    assert coerce("a", spec(list[str], one_or_list=True)) == ["a"]
    with pytest.raises(Mismatch, match="expected a list of text"):
        coerce("a", spec(list[str]))
    with pytest.raises(Mismatch, match="null"):
        coerce(None, spec(list[str], one_or_list=True))


@given(st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**53), 2**53))
@settings(max_examples=60, deadline=None)
def test_limits_are_those_of_comparison(value: float) -> None:
    limits = {"ge": (lambda v: v >= 0.5), "gt": (lambda v: v > 0.5), "le": (lambda v: v <= 0.5)}
    limits["lt"] = lambda v: v < 0.5
    for name, holds in limits.items():
        option = spec(float, **{name: 0.5})
        if holds(value):
            assert coerce(value, option) == value
        else:
            with pytest.raises(Mismatch, match="expected a number"):
                coerce(value, option)


def test_nothing_is_empty_that_may_not_be() -> None:
    for hint, value in ((str, ""), (list[str], []), (dict[str, str], {})):
        assert coerce(value, spec(hint)) == value
        with pytest.raises(Mismatch, match=r"\(not empty\)"):
            coerce(value, spec(hint, non_empty=True))
