"""The report on the reward itself: the check before training, the watch, and whatever is missing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hf_align.reporting.html import write_report
from hf_align.reporting.metrics import Series
from hf_align.reporting.model_card import write_model_card
from hf_align.reporting.watch_plots import histogram, in_deviations, watch_plots
from hf_align.reporting.watch_view import check_view, watch_facts, watch_view

ALARM = {
    "figure": "watch/honest",
    "rollout": 9,
    "since": 6,
    "then": 4,
    "said": "the watch reward 'honest' has fallen from 0.5 to 0.1",
    "samples": [
        {"prompt": "Which platform?", "answer": "<b>yes yes", "reward": 4.0, "watch": {"honest": 0.0}}
    ],
}


def record(**changes: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "command": "ppo",
        "status": "rolled back",
        "message": "the reward-hacking watch ended this run at rollout 9 and took it back: it fell",
        "recipe": {
            "model_name_or_path": "models/small",
            "datasets": [{"path": "prompts.jsonl"}],
            "output_dir": "runs/p",
            "reward_functions": ["rewards.py:pays"],
            "watch_window": 2,
            "watch_patience": 3,
            "watch_max_drop": 0.5,
            "watch_max_kl": 30.0,
            "watch_max_length_ratio": None,
            "watch_max_repetition_rise": 0.25,
        },
        "final_metrics": {"eval_watch/honest_before": 0.5, "eval_watch/honest": 0.25},
        "reward_watch": {
            "rewards": ["honest"],
            "action": "roll_back",
            "alarms": [ALARM],
            "ended": {"action": "roll_back", "rollout": 9, "checkpoint": "checkpoint-4"},
        },
        "reward_check": {
            "pairs": {
                "reward/judge": {
                    "accuracy": 0.75,
                    "accuracy_interval": [0.6, 0.9],
                    "prompts": 32,
                    "source": "pairs.jsonl",
                },
                "reward/other": {"source": None},
            },
            "scores": {
                "reward/pays": {
                    **{"answers": 8, "mean": 1.5, "std": 0.5, "within_std": 0.25, "min": 1.0, "max": 2.0},
                    **{"ties": 0.5, "edges": [1.0, 1.5, 2.0], "counts": [4, 4]},
                }
            },
            "warnings": ["reward/other: all score the same"],
        },
    }
    return base | changes


def metrics() -> list[dict[str, Any]]:
    return [
        {
            "step": step,
            "learning_rate": 1e-5,
            "reward/total": float(step),
            "reward_std": 2.0,
            "watch/honest": 0.5 - 0.05 * step,
            "watch_std/honest": 0.1,
            "kl": 0.1 * step,
            "response_length": 10.0,
            "repetition": 0.05,
        }
        for step in range(1, 11)
    ]


def test_rewards_are_drawn_in_one_unit() -> None:
    values = Series([1, 2, 3], [1.0, 3.0, 8.0], [])
    # The first two: mean 2, mean deviation 4.
    found = in_deviations(values, Series([1, 2, 3], [3.0, 5.0, 99.0], []), 2)
    assert found.values == [-0.25, 0.25, 1.5]
    assert in_deviations(values, Series([1, 2, 3], [0.0, 0.0, 1.0], []), 2).values == [-1.0, 1.0, 6.0]


def test_the_plots_show_rewards_limits_and_where_it_fired() -> None:
    plots = {plot.title: plot for plot in watch_plots(record(), metrics())}
    assert list(plots) == [
        "Training reward against watch reward",
        "Distance from the reference and its limit",
        "Length and its limits",
        "Repetition and its limit",
    ]
    rewards = plots["Training reward against watch reward"]
    assert "Training reward from 1 to 10" in rewards.summary and "rollouts 1 to 10" in rewards.summary
    assert "watch reward honest from 0.45 to 0" in rewards.summary
    assert all("the watch fired" in plot.forms[size] for plot in plots.values() for size in plot.forms)
    assert "limit for the mean of a window is 30.0 %" in plots["Repetition and its limit"].summary
    assert "limit" not in plots["Length and its limits"].summary, "it is off"


def test_what_the_watch_was_set_to_and_what_it_saw() -> None:
    view = watch_view(record(), metrics())
    assert view is not None
    cells = {row["name"]: row["cells"] for row in view["rows"]}
    assert cells["Watch reward falls while the training reward rises"] == [
        *("0.5 standard deviations below its best", "9")
    ]
    assert cells["Distance from the reference (KL)"] == ["30 nats per answer", "never"]
    assert cells["Length of the answers"] == ["off", "–"]
    assert "At rollout 9 the watch fired, with the rollouts from 6 on in doubt" in view["warnings"][0]
    answer = view["answers"][0]["answers"][0]
    assert (answer["note"], answer["text"]) == ("reward 4, honest 0", "<b>yes yes")
    (fact,) = watch_facts(record())
    assert (fact.value, fact.detail) == ("fired at rollout 9", "taken back to checkpoint-4")
    went_on = record(reward_watch={"alarms": [ALARM], "ended": None})
    assert watch_facts(went_on)[0].detail == "the run went on"


def test_the_check_before_training() -> None:
    view = check_view(record())
    assert view is not None
    said = dict(view["settings"])
    assert (
        "75.0 % in the right order (95 % interval 60.0 % to 90.0 %; 32 prompts; pairs.jsonl)" in said.values()
    )
    assert said["Training reward other on compared answers"].startswith("not checked")
    assert view["rows"][0]["cells"] == ["8", "1.5", "0.5", "0.25", "1", "2", "50.0 %"]
    assert view["plots"][0].summary == "8 answers score from 1 to 2, 1.5 on average."


def test_the_pages_show_it_escaped(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(json.dumps(record()))
    lines = "".join(json.dumps(row) + "\n" for row in metrics())
    (tmp_path / "metrics.jsonl").write_text(lines)
    page = write_report(tmp_path).read_text()
    for part in ("Reward-hacking watch", "Answers that show it", "Can the reward tell answers apart?"):
        assert part in page, part
    assert "&lt;b&gt;yes yes" in page and "<b>yes" not in page
    assert "The reward-hacking watch ended this run at rollout 9" in page
    assert "Watch reward honest" in page
    card = write_model_card(tmp_path).read_text()
    assert "**The reward-hacking watch ended this run at rollout 9" in card and "not complete" not in card


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {"reward_watch": None, "reward_check": None},
        {"reward_watch": {}, "reward_check": {}},
        {"reward_watch": {"alarms": [None, {}, "x"]}, "reward_check": {"scores": {"reward/a": None}}},
        {"reward_watch": {"alarms": [{"rollout": "NaN", "samples": [1]}]}, "recipe": None},
        {"reward_check": {"pairs": {"a": {"accuracy": 0.5}}, "scores": {"b": {"edges": [1], "counts": []}}}},
    ],
)
def test_whatever_is_missing(broken: dict[str, Any], tmp_path: Path) -> None:
    base = {"command": "ppo", "recipe": {}, "final_metrics": {}}
    (tmp_path / "run.json").write_text(json.dumps(base | broken))
    for rows in ([], metrics()):
        (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        assert write_report(tmp_path).is_file() and write_model_card(tmp_path).is_file()
    assert histogram("x", "X", {}) is None
