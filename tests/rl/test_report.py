"""The report of a PPO run: its metrics, its drawings, its answers over time, and whatever is missing."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from helpers.ppo_records import metrics

from hf_align.reporting.html import write_report
from hf_align.reporting.model_card import write_model_card
from hf_align.rl.report import held_out, rl_facts, rollouts, settings


def record(**changes: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "command": "ppo",
        "status": "completed",
        "started": "2026-05-03T10:00:00+00:00",
        "recipe": {
            "model_name_or_path": "models/small",
            "datasets": [{"path": "prompts.jsonl"}],
            "output_dir": "runs/p",
            "adapter": "lora",
            "lora_r": 8,
            "reward_model": ["runs/reward"],
            "reward_functions": ["rewards.py:short"],
            "reward_weights": [1.0, 0.5],
        },
        "model": {"precision": "fp32", "attention": "segments"},
        "reference": {"kind": "adapter switched off", "model": "models/small"},
        "start_check": {"kl_at_start": {"mean": 0.0, "largest": 0.0, "allowed": 1e-4}},
        "final_metrics": {
            "eval_reward/total_before": -0.5,
            "eval_reward/total": 1.25,
            "eval_reward/reward": 2.0,
            "eval_reward/short": -1.5,
            "eval_kl_before": 0.0,
            "eval_kl": 3.5,
            "eval_eos_rate": 0.75,
            "eval_answers": 32,
            "rollouts": 20,
            "episodes": 640,
        },
    }
    return base | changes


def samples() -> list[dict[str, Any]]:
    return [
        {
            "step": step,
            "samples": [
                {"prompt": f"p{step}", "answer": "best <b>", "reward": 1.5, "stopped": True},
                {"prompt": "q", "answer": "middling", "reward": 0.5, "stopped": True},
                {"prompt": "r", "answer": "", "reward": -2.0, "stopped": False},
            ],
        }
        for step in range(1, 21)
    ]


def test_settings_say_what_is_rewarded_and_what_was_checked() -> None:
    assert dict(settings(record())) == {
        "Reward": "runs/reward + 0.5 × rewards.py:short",
        "Reference": "adapter switched off of models/small",
        "KL to the reference at the start": "0 nats per token before the first update; 0 by theory, "
        "at most 0.0001 by rounding",
    }


def test_held_out_metrics() -> None:
    shown = {row["name"]: row["cells"] for row in held_out(record())}
    assert shown["Reward"] == ["-0.5", "1.25"]
    assert shown["Reward short"][1] == "-1.5"
    assert shown["KL to the reference, nats per answer"] == ["0", "3.5"]
    assert shown["EOS rate: answers that end by themselves"][1] == "75.0 %"
    alone = {key: value for key, value in record()["final_metrics"].items() if "short" not in key}
    names = [row["name"] for row in held_out(record(final_metrics=alone))]
    assert "Reward reward" not in names, "a single part is the reward itself"


def test_headlines() -> None:
    shown = {fact.label: (fact.value, fact.detail) for fact in rl_facts(record())}
    assert shown == {
        "Held-out reward": ("-0.5 → 1.25", "of 32 sampled answers"),
        "KL from the reference": ("3.5 nats", "per answer"),
        "Episodes": ("640", "in 20 rollouts"),
    }
    final = {"reward/total": 0.7, "kl": 2.0}
    shown = {fact.label: (fact.value, fact.detail) for fact in rl_facts(record(final_metrics=final))}
    assert shown["Reward"] == ("0.7", "in the last rollout")
    assert rl_facts({"command": "sft"}) == []


def test_answers_of_a_few_rollouts_from_the_first_to_the_last() -> None:
    shown = rollouts(samples())
    assert [item["source"] for item in shown[::2]] == [f"rollout {n}" for n in (1, 6, 10, 15, 20)] or [
        item["source"] for item in shown[::2]
    ] == [f"rollout {n}" for n in (1, 6, 11, 15, 20)]
    best, worst = (item["answers"][0] for item in shown[:2])
    assert (best["name"], best["note"], best["text"], best["kind"]) == (
        "highest reward",
        "1.5",
        "best <b>",
        "",
    )
    assert (worst["name"], worst["kind"], worst["missing"]) == ("lowest reward", "cut", "no text")
    assert len(rollouts(samples()[:1])) == 2
    assert rollouts([{"step": 1, "samples": samples()[0]["samples"][:1]}])[0]["prompt"] == "p1"
    assert rollouts([]) == []


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"status": "interrupted", "final_metrics": {}},
        {"start_check": None, "reference": None, "recipe": {}},
        {"final_metrics": {"eval_reward/total": "NaN"}},
    ],
)
def test_page_and_card_of_whatever_a_run_has_left(tmp_path: Path, changes: dict[str, Any]) -> None:
    (tmp_path / "run.json").write_text(json.dumps(record(**changes)))
    lines = [json.dumps(row).replace("NaN", '"NaN"') for row in metrics()]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines))
    (tmp_path / "samples.jsonl").write_text("\n".join(map(json.dumps, samples())) + '\n{"step": 21, "sam')
    page = write_report(tmp_path).read_text()
    assert "2 of 20 updates were ended early by kl_stop." in page
    assert "best &lt;b&gt;" in page and "best <b>" not in page
    assert "optimizer step" not in page, "steps are rollouts here"
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert "proximal policy optimisation" in write_model_card(tmp_path).read_text()
    for name in ("metrics.jsonl", "samples.jsonl"):
        (tmp_path / name).unlink()
    write_report(tmp_path)
