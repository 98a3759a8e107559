"""What the page and the card show of a Best-of-N run, also of a partial record."""

from __future__ import annotations

from typing import Any

import pytest

from hf_align.evaluation.best_of_n_curve import best_of_n_curve
from hf_align.reporting.best_of_n_card import best_of_n_card
from hf_align.reporting.best_of_n_view import best_of_n_facts, best_of_n_view, curve_rows
from hf_align.reporting.html import report_view
from hf_align.reporting.metrics import MetricsLog

CURVE = best_of_n_curve([[float(i) for i in range(12)], [0.0] * 12])
RECORD: dict[str, Any] = {
    "command": "best-of-n",
    "status": "completed",
    "recipe": {
        "model_name_or_path": "models/tiny",
        "num_generations": 12,
        "datasets": [{"path": "d.jsonl"}],
        "reward_functions": ["f.py:g"],
        "missing_eos_penalty": 1.0,
        "seed": 7,
    },
    "best_of_n": {
        "prompts": 2,
        "samples_per_prompt": 12,
        "curve": CURVE,
        "rewards": {"g_<b>": {"mean": 2.75, "best": 5.5}},
        "stopped": 0.5,
        "tokens": 8.25,
        "distinct": 0.75,
        "undecided": 0.5,
        "files": {"best.jsonl": 1, "samples.jsonl": 2},
    },
    "best_of_n_samples": [
        {
            "source": "d.jsonl:1",
            "prompt": "<script>",
            "reference": "11",
            "best": "11",
            "best_reward": 11.0,
            "best_stopped": True,
            "worst": "",
            "worst_reward": 0.0,
            "worst_stopped": False,
        }
    ],
}


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


def test_other_stages_have_none():
    assert best_of_n_view({"command": "sft"}) is None


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


def test_the_card():
    card = best_of_n_card(RECORD)
    assert card.startswith("# Best of 12\n")
    assert "12 answers of `models/tiny` to each prompt of `d.jsonl`, scored by `f.py:g`" in card
    assert "| 12 | 5.5 |" in card
    assert r"g\_\<b\>" in card
    assert "not complete" not in card
    assert "not complete (status: interrupted)" in best_of_n_card({**RECORD, "status": "interrupted"})
