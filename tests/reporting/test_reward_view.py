"""The report and the model card of a reward run: its figures, its drawings, and whatever is missing."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hf_align.evaluation.calibration import distribution, reward_evaluation
from hf_align.reporting.html import write_report
from hf_align.reporting.model_card import write_model_card
from hf_align.reporting.reward_plots import reward_plots
from hf_align.reporting.reward_view import held_out, reward_view
from hf_align.reporting.run_view import facts


def evaluation(shift: float) -> dict[str, Any]:
    """120 pairs whose margins are normal around ``shift``."""
    rng = np.random.default_rng(0)
    worse = rng.normal(0, 1, 120)
    better = worse + rng.normal(shift, 1, 120)
    differences = rng.integers(-20, 21, 120)
    lengths = rng.integers(5, 40, 240)
    found = reward_evaluation(
        better - worse, np.ones(120), differences, scores=np.concatenate([better, worse]), lengths=lengths
    )
    return found | {"scores": distribution(better, worse, np.ones(120))}


def record(**changes: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "command": "reward",
        "status": "completed",
        "started": "2026-05-03T10:00:00+00:00",
        "recipe": {
            "model_name_or_path": "models/small",
            "datasets": [{"path": "pairs.jsonl"}],
            "output_dir": "runs/r",
            "adapter": "lora",
            "lora_r": 8,
            "center_rewards_coefficient": 0.01,
            "train_on": "assistant",
        },
        "model": {"pad_token": "<|pad|>", "precision": "fp32", "attention": "segments"},
        "merge": {"largest_score_difference": 3e-6},
        "final_metrics": {"eval_loss_before": 0.7, "eval_loss": 0.3, "eval_rewards/accuracies": 0.9},
        "reward_evaluation": {"before": evaluation(0.0), "after": evaluation(1.5)},
        "reward_reference": {"mean": -0.25, "std": 1.5, "answers": 240, "source": "held-out answers"},
    }
    return base | changes


METRICS = [
    {"step": 0, "eval_loss": 0.7, "eval_rewards/accuracies": 0.5, "eval_rewards/margins": 0.0},
    *(
        {
            "step": i,
            "loss": 0.7 / i,
            "rewards/accuracies": 0.5 + i / 100,
            "rewards/margins": i / 10,
            "prompts": 8,
        }
        for i in range(1, 41)
    ),
    {"step": 40, "eval_loss": 0.3, "eval_rewards/accuracies": 0.9, "eval_rewards/margins": 1.5},
]


def written(folder: Path, content: dict[str, Any]) -> tuple[str, str]:
    """Report and card of a run folder with this record."""
    folder.mkdir(exist_ok=True)
    (folder / "run.json").write_text(json.dumps(content))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in METRICS))
    return write_report(folder).read_text(), write_model_card(folder).read_text()


def test_the_page_shows_figures_and_drawings(tmp_path: Path) -> None:
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
    cells = rows["Accuracy: the better answer scores higher"]
    assert cells[:2] == [f"{100 * part['accuracy']:.1f} %" for part in (before, after)]
    low, high = after["accuracy_interval"]
    assert cells[2] == f"{100 * low:.1f} % to {100 * high:.1f} %"
    longer = after["by_length"]["longer_better"]
    assert f"Accuracy where the better answer is longer ({longer['pairs']} pairs)" in rows
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


def test_the_card_says_how_the_model_is_loaded(tmp_path: Path) -> None:
    _, card = written(tmp_path / "merged", record())
    assert "pipeline_tag: text-classification" in card and "library_name: transformers" in card
    assert "AutoModelForSequenceClassification.from_pretrained('runs/r')" in card
    recipe = record()["recipe"] | {"load_in_4bit": True}
    content = record(recipe=recipe)
    del content["merge"]
    _, card = written(tmp_path / "adapter", content)
    assert "library_name: peft" in card and "load_reward_model('runs/r')" in card
    assert "on a base in 4 or 8 bits" in card
    _, card = written(tmp_path / "full", record(recipe=record()["recipe"] | {"adapter": "none"}))
    assert "library_name: transformers" in card


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
    assert reward_view(record(command="sft"), []) is None


def test_drawings_cope_with_few_pairs() -> None:
    few = reward_evaluation([1.0], [1.0], [3], scores=[1.0, 0.0], lengths=[4, 1])
    few["scores"] = distribution([1.0], [0.0], [1.0])
    assert [plot.title for plot in reward_plots({"after": few})] == [
        "Reliability",
        "Accuracy by difference in length",
        "Scores after training",
    ]
    same = copy.deepcopy(few)
    same["scores"] = distribution([0.0], [0.0], [1.0])
    assert len(reward_plots({"before": same, "after": few})) == 4
