"""Comparisons in other forms, and back through the formats that the pipeline reads."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_align.data.comparisons.forms import (
    as_hh,
    as_preference,
    as_ranking,
    as_sharegpt,
    pairs_of,
    ranking_of,
)
from hf_align.data.conversion.formats import COMPARISON_FORMATS, Conversion
from hf_align.data.reading.raw import RawRow
from hf_align.types import Comparison, Message

_answer = st.text("abc \n你.:", min_size=1, max_size=8).filter(str.strip)
_content = st.text("abc \n你.:", max_size=8)
_margin = st.none() | st.floats(-5, 5)


@st.composite
def conversations(draw: st.DrawFn) -> tuple[Message, ...]:
    texts = draw(st.lists(_content, min_size=1, max_size=3).filter(lambda texts: len(texts) != 2))
    turns = [Message("user" if i % 2 == 0 else "assistant", text) for i, text in enumerate(texts)]
    system = draw(st.none() | _answer)
    return (*([Message("system", system)] if system else []), *turns)


@st.composite
def comparisons(draw: st.DrawFn, most: int = 5) -> Comparison:
    prompt = draw(_content | conversations())
    answers = draw(st.lists(_answer, min_size=2, max_size=most, unique=True))
    scores = draw(st.lists(st.integers(-2, 2), min_size=len(answers), max_size=len(answers)))
    if len(set(scores)) == 1:
        scores[0] += 1
    return Comparison("f:1", prompt, tuple(answers), tuple(map(float, scores)), draw(_margin))


def _read(name: str, row: dict[str, Any]) -> Comparison:
    row_format = COMPARISON_FORMATS[name]
    return Conversion(name, row_format, row_format.names({}))(RawRow("f:1", json.loads(json.dumps(row))))


def _relations(comparison: Comparison) -> set[tuple[str, str]]:
    answered = list(zip(comparison.answers, comparison.scores, strict=True))
    return {(one, other) for one, high in answered for other, low in answered if high > low}


@settings(max_examples=150, deadline=None)
@given(comparison=comparisons())
def test_pairs_and_ranking_come_back(comparison: Comparison) -> None:
    pairs = pairs_of(comparison)
    assert {pair.answers for pair in pairs} == _relations(comparison)
    assert all(pair.scores[0] > pair.scores[1] for pair in pairs)
    ranking = ranking_of(pairs)
    assert _relations(ranking) == _relations(comparison)
    assert (ranking.prompt, ranking.margin) == (comparison.prompt, comparison.margin)
    assert set(ranking.answers) == set(comparison.answers)
    assert _read("ranking", as_ranking(comparison)) == comparison


@settings(max_examples=150, deadline=None)
@given(comparison=comparisons(most=2))
def test_pairs_come_back_from_rows(comparison: Comparison) -> None:
    (better, worse) = max(_relations(comparison))
    expected = Comparison("f:1", comparison.prompt, (better, worse), (1.0, 0.0), comparison.margin)
    assert _read("preference", as_preference(comparison)) == expected
    if isinstance(comparison.prompt, str):
        for form in (as_sharegpt, as_hh):
            with pytest.raises(ValueError, match="plain string"):
                form(comparison)
        return
    assert _read("sharegpt_preference", as_sharegpt(comparison)) == expected
    turns = [message.content for message in comparison.prompt] + [*comparison.answers]
    if all(text == text.strip() for text in turns):
        assert _read("hh", as_hh(comparison)) == expected
    else:
        with pytest.raises(ValueError, match="not be read back as it is"):
            as_hh(comparison)


def _pair(better: str, worse: str, **changes: Any) -> Comparison:
    return Comparison(
        "f:1",
        changes.get("prompt", "q"),
        (better, worse),
        changes.get("scores", (1.0, 0.0)),
        changes.get("margin"),
    )


def test_a_ranking_by_hand() -> None:
    # a beats b, c and d; b and c beat d and are not compared: they tie.
    pairs = [
        _pair("b", "d"),
        _pair("a", "b"),
        _pair("a", "c"),
        _pair("a", "d"),
        _pair("d", "c", scores=(0.0, 1.0)),
    ]
    ranking = ranking_of(pairs)
    assert dict(zip(ranking.answers, ranking.scores, strict=True)) == {"a": 3, "b": 1, "c": 1, "d": 0}


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([], "at least one pair"),
        ([_pair("a", "b"), _pair("b", "a")], "one order"),
        ([_pair("a", "b"), _pair("b", "c"), _pair("c", "a")], "one order"),
        ([_pair("a", "b"), _pair("b", "c")], "one order"),  # a and c were not compared, and cannot tie
        ([_pair("a", "b"), _pair("a", "b", prompt="r")], "another prompt"),
        ([_pair("a", "b"), _pair("a", "c", margin=1.0)], "another prompt or margin"),
    ],
)
def test_pairs_that_make_no_ranking(pairs: list[Comparison], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ranking_of(pairs)


def test_rows_by_hand() -> None:
    turns = (Message("system", "s"), Message("user", "q"))
    pair = Comparison("f", turns, ("b", "a"), (0.0, 1.0), 0.5)
    assert as_preference(pair) == {
        "prompt": [{"role": "system", "content": "s"}, {"role": "user", "content": "q"}],
        "chosen": [{"role": "assistant", "content": "a"}],
        "rejected": [{"role": "assistant", "content": "b"}],
        "margin": 0.5,
    }
    assert as_sharegpt(pair) == {
        "conversations": [{"from": "system", "value": "s"}, {"from": "human", "value": "q"}],
        "chosen": {"from": "gpt", "value": "a"},
        "rejected": {"from": "gpt", "value": "b"},
        "margin": 0.5,
    }
    assert as_hh(pair) == {
        "chosen": "s\n\nHuman: q\n\nAssistant: a",
        "rejected": "s\n\nHuman: q\n\nAssistant: b",
        "margin": 0.5,
    }
    assert as_preference(_pair("a", "b")) == {"prompt": "q", "chosen": "a", "rejected": "b"}


@pytest.mark.parametrize("form", [as_preference, as_sharegpt, as_hh])
def test_forms_of_pairs_refuse_rankings_and_ties(form: Any) -> None:
    turns = (Message("user", "q"),)
    with pytest.raises(ValueError, match="found 3 answers"):
        form(Comparison("f", turns, ("a", "b", "c"), (2.0, 1.0, 0.0)))
    with pytest.raises(ValueError, match="the answers tie"):
        form(Comparison("f", turns, ("a", "b"), (1.0, 1.0)))


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ((Message("user", "q"), Message("tool", "t")), r"no place for turn 2 \(tool\)"),
        ((Message("user", "q"), Message("system", "t")), r"no place for turn 2 \(system\)"),
        ((Message("user", "x\n\nAssistant: y"),), "turn 1 would not be read back"),
        ((Message("user", "Human: y"),), "turn 1 would not be read back"),
    ],
)
def test_what_a_transcript_cannot_hold(prompt: tuple[Message, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        as_hh(Comparison("f", prompt, ("a", "b"), (1.0, 0.0)))
