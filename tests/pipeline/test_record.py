"""What a pipeline's record collects from the folders of its steps, also from those that are not there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hf_align.pipeline.record import SHOWN_FACTS, collect


def step(folder: Path, name: str, command: str = "sft", **others: Any) -> dict[str, Any]:
    return {"name": name, "stage": name, "command": command, "output_dir": str(folder / name), **others}


def test_facts_of_steps(tmp_path: Path) -> None:
    (tmp_path / "sft").mkdir()
    record = {
        "command": "sft",
        "status": "completed",
        "wall_time_seconds": 3.5,
        "final_metrics": {"eval_loss": 1.0, "eval_loss_before": 2.0},
        "model": {"precision": "fp32"},
    }
    (tmp_path / "sft" / "run.json").write_text(json.dumps(record))
    found = collect([step(tmp_path, "sft"), step(tmp_path, "dpo", "dpo")], seed=0)
    assert found["evaluations"] == [] and list(found["steps"]) == ["sft", "dpo"]
    sft = found["steps"]["sft"]
    assert sft["status"] == "completed" and sft["seconds"] == 3.5
    assert 0 < len(sft["facts"]) <= SHOWN_FACTS and sft["facts"][0][0] == "Held-out loss"
    assert found["steps"]["dpo"] == {"status": None, "seconds": None, "peak_memory_bytes": None, "facts": []}


def test_an_evaluation_without_results_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "evaluate").mkdir()
    (tmp_path / "evaluate" / "run.json").write_text('{"command": "evaluate", "evaluation": {"results": {}}}')
    found = collect([step(tmp_path, "evaluate", "evaluate", seed=None)], seed=0)
    assert found["evaluations"] == []
