"""The watch reward of a PPO recipe: words shared with the reference answer, counted by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from hf_align.rewards.functions import load_function

FILE = Path(__file__).parent.parent / "recipes" / "ppo" / "overlap.py"
ROW = {"chosen": [{"role": "assistant", "content": "It costs 19 euros."}]}


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("It costs 19 euros.", 1.0),
        ("19 EUROS", 2 * 2 / (2 + 4)),
        ("It costs 19 euros. Thank you so much!", 2 * 4 / (8 + 4)),
        ("19 19 19 19", 2 * 1 / (4 + 4)),  # a word counts as often as the reference has it
        ("No.", 0.0),
        ("", 0.0),
    ],
)
def test_by_hand(answer: str, expected: float) -> None:
    overlap, _ = load_function(str(FILE), "overlap")
    assert overlap(["?"], [answer], [ROW]) == [pytest.approx(expected)]
    assert overlap(["?"], [answer], [{"chosen": "It costs 19 euros."}]) == [pytest.approx(expected)]
