"""Prompts without answers: asked whole by the commands that learn from rewards, with their own columns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from helpers.tiny_ppo import make_inputs, run

from hf_align.runs.metrics import read_metrics, rows_with

QUESTIONS = [
    {"messages": [{"role": "user", "content": f"first {n}"}, {"role": "assistant", "content": "ok"},
                  {"role": "user", "content": f"last {n}"}], "number": n}
    for n in range(8)
]  # fmt: skip
REWARD = """
def known(prompts, completions, rows):
    for prompt, row in zip(prompts, rows):
        assert f"last {row['number']}" in prompt and "first" in prompt, prompt
    return [float(row["number"]) for row in rows]
"""


@pytest.mark.parametrize("held_out", [True, False])
def test_a_conversation_that_ends_with_the_user_is_asked_whole(tmp_path: Path, held_out: bool) -> None:
    inputs = make_inputs(tmp_path)
    data, rewards = tmp_path / "asked.jsonl", tmp_path / "known.py"
    data.write_text("".join(json.dumps(row) + "\n" for row in QUESTIONS))
    rewards.write_text(REWARD)
    given: dict[str, Any] = {"datasets": str(data), "reward_functions": f"{rewards}:known"}
    given["eval_datasets"] = str(data) if held_out else None
    record = run(
        {**{key: value for key, value in inputs.items() if key != "eval_datasets"},
         **{key: value for key, value in given.items() if value is not None}},
        tmp_path / "run",
        num_rollouts=2,
        rollout_batch_size=4,
        num_generations=2,
    )  # fmt: skip
    rows = rows_with(read_metrics(tmp_path / "run" / "metrics.jsonl").rows, "reward/known")
    # All eight numbers are asked once in two rollouts of four prompts.
    assert sum(row["reward/known"] for row in rows) / 2 == pytest.approx(3.5)
    assert record["status"] == "completed"
    (source, *_) = record["data_report"]["sources"]
    assert source["kept"] == 8 and source["ignored"] == {"number": 8}
