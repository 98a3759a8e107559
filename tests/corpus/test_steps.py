"""Entries of a recipe become steps; what is wrong with one is said before anything is read."""

from __future__ import annotations

from typing import Any

import pytest

from hf_align.corpus.names import DEFAULT_STEPS, STEP_NAMES
from hf_align.corpus.steps import STEPS, read_steps
from hf_align.errors import UserError


def test_every_name_is_a_step() -> None:
    assert tuple(STEPS) == STEP_NAMES


def test_the_default_order_and_a_step_twice() -> None:
    assert [step.name for step in read_steps(DEFAULT_STEPS)] == list(DEFAULT_STEPS)
    assert [step.name for step in read_steps(["c4", {"c4": {"min_sentences": 1}}])] == ["c4", "c4#2"]


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("gopher_qualty", "there is no step 'gopher_qualty'. Did you mean 'gopher_quality'"),
        ({"minhash": {"band": 3}}, "minhash has no option 'band'. Did you mean 'bands'"),
        ({"minhash": {"bands": "3"}}, "bands: found '3', expected a whole number"),
        ({"gopher_quality": {"min_word": 3}}, "no threshold 'min_word'. Did you mean 'min_words'"),
        ({"gopher_quality": {"min_words": True}}, "min_words: found True, expected a number"),
        ({"fineweb": {"preset": "book"}}, "preset: found 'book', expected paper or code"),
        ({"exact_duplicates": {"keep": "last"}}, "keep: found 'last', expected 'first' or 'longest'"),
        ({"personal_data": {"kinds": ["mail"]}}, "kinds: found 'mail', expected some of"),
        ({"classifier": {"keep_share": 0.5}}, "classifier needs its option good"),
        ({"perplexity": {"model": "m", "keep_share": 2.0}}, "keep_share: found 2"),
        ({"c4": {}, "lines": {}}, r"found 2 names \(c4, lines\), expected one step"),
    ],
)
def test_a_wrong_entry_is_named(entry: Any, said: str) -> None:
    with pytest.raises(UserError, match=said):
        read_steps([entry])
