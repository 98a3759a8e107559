"""What the page and the card show of a Best-of-N run, also of a partial record."""

from __future__ import annotations

import pytest
from helpers.best_of_n_records import CURVE, RECORD

from hf_align.best_of_n.card import best_of_n_card
from hf_align.best_of_n.curve import best_of_n_curve
from hf_align.best_of_n.report import best_of_n_facts, best_of_n_view, curve_rows
from hf_align.reporting.html import report_view
from hf_align.runs.metrics import MetricsLog


def test_the_table_has_powers_of_two_and_the_largest():
    rows = curve_rows(CURVE)
    assert [row["name"] for row in rows] == ["1", "2", "4", "8", "12"]
    assert rows[0]["cells"][0] == "2.75"
    assert rows[-1]["cells"][0] == "5.5"
    assert rows[1]["cells"][2] == "0.1931"


def test_the_headline():
    shown = {fact.label: fact.value for fact in best_of_n_facts(RECORD)}
    assert shown["Reward"] == "2.75 → 5.5"
    assert shown["KL divergence"] == "at most 1.568"  # ln 12 - 11/12
    assert shown["Stopped by themselves"] == "50.0 %"


def test_the_view():
    view = best_of_n_view(RECORD)
    assert view is not None
    assert [plot.title for plot in view["plots"]] == [
        "Reward of the best of n",
        "Reward against distance from the model",
    ]
    assert "from 2.75 at n = 1 to 5.5 at n = 12" in view["plots"][0].summary.lower().replace("N", "n")
    settings = dict(view["settings"])
    assert settings["Reward g_<b>"] == "2.75 on average, 5.5 for the best answers"
    assert settings["best.jsonl"].startswith("1 row: ")
    assert any("50.0 % of the prompts" in note for note in view["notes"])
    answers = view["answers"][0]["answers"]
    assert [answer["name"] for answer in answers] == ["Best, reward 11", "Worst, reward 0", "Reference"]
    assert answers[0]["note"] == "equals the reference, stopped by itself"
    assert (answers[1]["missing"], answers[1]["note"]) == ("an empty answer", "cut off")


@pytest.mark.parametrize("cut", ["best_of_n", "best_of_n_samples", "recipe", "status"])
def test_partial_records(cut):
    partial = {key: value for key, value in RECORD.items() if key != cut}
    view = report_view(partial, MetricsLog([], 0), "runs/x")
    assert view["best_of_n"] is not None
    assert best_of_n_card(partial).startswith("# ")


def test_a_single_prompt_has_no_interval():
    record = {**RECORD, "best_of_n": {**RECORD["best_of_n"], "curve": best_of_n_curve([[1.0, 2.0]])}}
    view = best_of_n_view(record)
    assert view is not None
    assert [row["cells"][1] for row in view["rows"]] == ["–", "–"]
    assert len(view["plots"]) == 2
