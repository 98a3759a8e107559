"""The reward of the shipped Best-of-N recipe, by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hf_align.rewards.functions import call_function, load_function

FILE = Path(__file__).parent.parent / "recipes" / "best_of_n" / "orders.py"
ORDER = {"item": "lamps", "quantity": 12, "city": "Oslo", "date": "06-18"}


@pytest.mark.parametrize(
    ("answer", "score"),
    [
        (json.dumps(ORDER), 1.0),
        (json.dumps(ORDER, indent=2) + "\n", 1.0),
        (json.dumps({**ORDER, "city": "Rome"}), 0.75),
        (json.dumps({**ORDER, "quantity": "12"}), 0.875),  # mentioned, but no number
        ("Here it is: " + json.dumps(ORDER), 0.75),
        (json.dumps({**ORDER, "id": 1}), 0.75),
        ("12 lamps to Oslo", 0.125),  # three of four mentioned, less a quarter
        ("lamps", 0.0),
        ('{"item": {"item": "lamps"}', 0.0),
        ("{not JSON}", 0.0),
        ("", 0.0),
    ],
)
def test_scores(answer, score):
    function, _ = load_function(str(FILE), "order_score")
    rows = [{"output": json.dumps(ORDER)}]
    found = call_function(function, "orders.py:order_score", [""], [answer], rows, places=["x:1"])
    assert found.tolist() == [score]
