"""The report and the model card of a reward run: its metrics, its drawings, and whatever is missing."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from helpers.reward_records import record, written

from hf_align.reporting.run_view import facts
from hf_align.reward_model.report import held_out, reward_view
from hf_align.statistics.calibration import reward_evaluation


def test_the_page_shows_metrics_and_drawings(tmp_path: Path) -> None:
    page, card = written(tmp_path, record())
    for title in (
        "Reliability",
        "Accuracy by difference in length",
        "Scores before training",
        "Scores after training",
        "Reward margin",
        "Pairs in the right order",
    ):
        assert f"<h3>{title}</h3>" in page, title
    accuracy = record()["reward_evaluation"]["after"]["accuracy"]
    assert f"{100 * accuracy:.1f} %" in page and f"{100 * accuracy:.1f} %" in card
    assert "Held-out accuracy" in page and "Held-out accuracy" in card
    assert "mean −0.25 and the standard deviation 1.5" in page
    assert "loss per prompt" in page
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids)), "every drawing has ids of its own"
    assert "Perplexity" not in page and "perplexity" not in page


def test_the_rows_hold_before_after_and_interval() -> None:
    rows = {row["name"]: row["cells"] for row in held_out(record())}
    before, after = record()["reward_evaluation"]["before"], record()["reward_evaluation"]["after"]
    cells = rows["Accuracy: the chosen answer scores higher"]
    assert cells[:2] == [f"{100 * part['accuracy']:.1f} %" for part in (before, after)]
    low, high = after["accuracy_interval"]
    assert cells[2] == f"{100 * low:.1f} % to {100 * high:.1f} %"
    longer = after["by_length"]["longer_better"]
    assert f"Accuracy where the chosen answer is longer ({longer['pairs']} pairs)" in rows
    assert "Pairs of equal scores, counted as wrong" not in rows, "there are none"


def test_ties_and_broken_scores_are_said(tmp_path: Path) -> None:
    zero = reward_evaluation([0.0] * 4 + [float("nan")], [1.0] * 5, [1, -1, 0, 2, 3])
    content = record(reward_evaluation={"before": zero})
    rows = {row["name"]: row["cells"] for row in held_out(content)}
    assert rows["Pairs of equal scores, counted as wrong"][0] == "80.0 %"
    page, _ = written(tmp_path, json.loads(json.dumps(content)))
    assert "The scores of 1 pair were not finite numbers." in page
    fact = next(fact for fact in facts(content, []) if fact.label == "Held-out accuracy")
    assert (fact.value, fact.detail) == ("0 %", "before training")


@pytest.mark.parametrize("missing", ["reward_evaluation", "reward_reference", "merge", "model", "recipe"])
def test_a_run_that_is_not_over_has_a_page(tmp_path: Path, missing: str) -> None:
    content = record(status="running")
    del content[missing]
    page, card = written(tmp_path, content)
    assert "Reward model" in page and card.startswith("---")


def test_other_entries_than_expected_are_left_out() -> None:
    for broken in (
        None,
        [],
        "x",
        {"before": 3},
        {"after": {"reliability": 3, "by_length": {"quantiles": None}}},
    ):
        view = reward_view(record(reward_evaluation=broken), [])
        assert view is not None and view["plots"] == []
