"""The card of a run that sampled answers."""

from __future__ import annotations

from helpers.best_of_n_records import RECORD

from hf_align.best_of_n.card import best_of_n_card


def test_the_card():
    card = best_of_n_card(RECORD)
    assert card.startswith("# Best of 12\n")
    assert "12 answers of `models/tiny` to each prompt of `d.jsonl`, scored by `f.py:g`" in card
    assert "| 12 | 5.5 |" in card
    assert r"g\_\<b\>" in card
    assert "not complete" not in card
    assert "not complete (status: interrupted)" in best_of_n_card({**RECORD, "status": "interrupted"})
