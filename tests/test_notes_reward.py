"""The reward of recipes/pipeline/notes.py, by answers whose parts are counted by hand."""

from __future__ import annotations

import json
from types import ModuleType

import pytest
from helpers.documentation import ROOT
from helpers.scripts import load_script

GOOD = "It costs 19 euros. The parcel holds jackets. Anything else about order 4408? Just ask."


@pytest.fixture(scope="module")
def notes() -> ModuleType:
    return load_script(ROOT / "recipes" / "pipeline" / "notes.py")


@pytest.mark.parametrize(
    ("answer", "score"),
    [
        (GOOD, 1.0),
        # The first sentence, the offer and nothing else: each counts by itself.
        ("It costs 19 euros.", 0.4 + 0.2),
        ("Anything else about order 4408? Just ask.", 0.4),
        ("It costs 19 euros. Anything else about order 9? Just ask.", 0.4 + 0.2 + 0.2),
        # Three words of four are those of the good sentence: F1 = 2 * 3 / (4 + 4).
        ("It costs 20 euros. Anything else about order 4408? Just ask.", 0.4 * 0.75 + 0.4 + 0.2),
        # One of two sentences is of no form that good answers have, and the first shares no word.
        ("Great question! It costs 19 euros.", 0.2 / 2),
        ("Anything else about order 4408? Just ask. Bye.", 0.0),
        ("", 0.0),
        ("???", 0.0),
    ],
)
def test_parts(notes: ModuleType, answer: str, score: float) -> None:
    rows = [{"chosen": [{"role": "assistant", "content": GOOD}]}, {"chosen": GOOD}]
    assert notes.house_style(["", ""], [answer] * 2, rows) == pytest.approx([score] * 2)


@pytest.mark.parametrize("name", ["pairs_en", "pairs_heldout"])
def test_every_good_answer_gets_all_and_its_faulty_one_less(notes: ModuleType, name: str) -> None:
    rows = [json.loads(line) for line in (ROOT / "data" / f"{name}.jsonl").read_text().splitlines()]
    answers = {key: [row[key][0]["content"] for row in rows] for key in ("chosen", "rejected")}
    blank = [""] * len(rows)
    assert notes.house_style(blank, answers["chosen"], rows) == pytest.approx([1.0] * len(rows))
    assert max(notes.house_style(blank, answers["rejected"], rows)) < 1
