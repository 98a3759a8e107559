"""The report on the reward itself: the check before training, the watch, and whatever is missing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from helpers.watch_records import ALARM, metrics, record

from hf_align.reporting.html import write_report
from hf_align.reporting.model_card import write_model_card
from hf_align.rl.watch.plots import histogram
from hf_align.rl.watch.report import check_view, watch_facts, watch_view


def test_what_the_watch_was_set_to_and_what_it_saw() -> None:
    view = watch_view(record(), metrics())
    assert view is not None
    cells = {row["name"]: row["cells"] for row in view["rows"]}
    assert cells["Watch reward falls while the training reward rises"] == [
        *("0.5 standard deviations below its best", "9")
    ]
    assert cells["KL to the reference"] == ["30 nats per answer", "never"]
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
