"""What the page and the card show of rejection-sampling fine-tuning, also of a partial record."""

from __future__ import annotations

import pytest
from helpers.raft_records import RECORD

from hf_align.best_of_n.raft.report import is_trained, raft_facts, raft_view
from hf_align.reporting.html import report_view
from hf_align.reporting.model_card import model_card
from hf_align.runs.metrics import MetricsLog


def test_the_table_has_a_row_for_the_start_and_each_round():
    view = raft_view(RECORD)
    assert [row["name"] for row in view["rows"]] == ["start", "1", "2"]
    assert view["rows"][0]["cells"] == ["–", "–", "–", "0.5 (0.4 to 0.6)", "–", "75.0 %"]
    # The mean of 0.25 - 1, 0.25, 0.25 + 1 is 0.25; the best of the three is 1.25, of three equal ones 0.25.
    assert view["rows"][1]["cells"][:3] == ["0.25", "0.75", "50 (30 prompts)"]
    assert view["rows"][2]["cells"][4] == "+1 (+0.875 to +1.125)"
    assert "25.0 % of the prompts" in view["notes"][-1]


def test_the_headline():
    shown = {fact.label: (fact.value, fact.detail) for fact in raft_facts(RECORD)}
    assert shown["Held-out reward"] == ("0.5 → 1.5", "change, 95 %: +0.875 to +1.125")
    assert shown["Answers learned from"] == ("100", "of 1,024 that were sampled")
    assert shown["Method"][0] == "LoRA (r = 8)"


def test_page_and_card():
    view = report_view(RECORD, MetricsLog([], 0), "runs/x")
    assert view["best_of_n"]["title"] == "Rounds"
    assert [answer["name"] for answer in view["generations"][0]["answers"]] == [
        "Before, reward 0",
        "After, reward 1",
        "Reference",
    ]
    card = model_card(RECORD, [])
    assert card.startswith("---\n") and "library_name: peft" in card
    assert "fine-tuning on its own best answers (rejection sampling) of `models/tiny`" in card
    assert "| start | – | – | – | 0.5 (0.4 to 0.6) |" in card
    assert r"f.py:g\<b\>" in card
    assert "not complete (status: interrupted)" in model_card({**RECORD, "status": "interrupted"}, [])


@pytest.mark.parametrize("cut", ["rounds", "final_metrics", "generations", "status"])
def test_partial_records(cut):
    partial = {key: value for key, value in RECORD.items() if key != cut}
    assert report_view(partial, MetricsLog([], 0), "runs/x")["best_of_n"]["title"] == "Rounds"
    assert "## Rounds" in model_card(partial, [])


def test_a_run_without_held_out_prompts():
    rounds = [{**entry, "held_out": None} for entry in RECORD["rounds"]]
    record = {**RECORD, "rounds": rounds, "final_metrics": {}}
    view = raft_view(record)
    assert view["rows"][1]["cells"][3:5] == ["–", "–"]
    assert len(view["plots"]) == 2
    assert "Held-out reward" not in {fact.label for fact in raft_facts(record)}


def test_which_runs_are_trained():
    assert is_trained(RECORD)
    assert not is_trained({**RECORD, "recipe": {"train": False}})
    assert not is_trained({**RECORD, "command": "sft"})
