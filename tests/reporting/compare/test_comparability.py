"""Preference runs side by side: metrics that mean the same are compared, others are not."""

from __future__ import annotations

from typing import Any

from helpers.preference_record import ROWS, changed

from hf_align.reporting.compare.page import comparison_view
from hf_align.reporting.compare.runs import ComparedRun
from hf_align.reporting.compare.tables import headline_table
from hf_align.runs.metrics import MetricsLog
from hf_align.runs.schema import Record


def compared(mark: str, **changes: Any) -> ComparedRun:
    record = changed(**changes)
    record["final_metrics"] |= {
        "eval_kl_before": 0.0,
        "eval_rewards/accuracies": 0.9,
        "eval_rewards/margins": 1.0,
        "eval_kl": 0.1,
    }
    if mark == "B":
        record["final_metrics"] |= {
            "eval_loss": 22.0,
            "eval_rewards/accuracies": 0.95,
            "eval_rewards/margins": 2.0,
            "eval_kl": 0.2,
        }
    return ComparedRun(mark, f"run {mark}", f"runs/{mark}", Record.of(record), MetricsLog(ROWS, 0))


def best(runs: list[ComparedRun], label: str) -> list[bool]:
    (row,) = [row for row in headline_table(runs)[0] if row["label"] == label]
    return [cell["best"] for cell in row["cells"]]


def test_runs_of_different_losses_share_only_what_they_can() -> None:
    runs = [compared("A"), compared("B", recipe__loss=["ipo"])]
    assert best(runs, "Held-out pairs in the right order") == [False, True]
    assert best(runs, "Held-out loss") == [False, False], "25 is where IPO begins"
    assert best(runs, "Held-out reward margin") == [False, False]
    assert any("different losses" in note for note in headline_table(runs)[1])
    assert best(runs, "Held-out pairs whose chosen answer is likelier per token") == [False, False]
    labels = [row["label"] for row in headline_table(runs)[0]]
    assert "Held-out loss before" in labels and "eval_kl_before" not in labels
    titles = [plot.title for plot in comparison_view(runs)["plots"]]
    assert "Pairs in the right order" in titles and "Reward margin" in titles
    other_beta = [compared("A"), compared("B", recipe__beta=0.5)]
    assert best(other_beta, "Held-out loss") == [False, False]


def test_runs_of_the_same_loss_are_compared() -> None:
    runs = [compared("A"), compared("B", recipe__lora_r=4)]
    assert best(runs, "Held-out loss") == [True, False]
    assert best(runs, "Held-out reward margin") == [False, True]
    assert best(runs, "Held-out distance from the reference, nats per token") == [False, False]
    assert headline_table(runs)[1] == []
