"""Pipelines as a whole: what would run, folders that are something else's, and one process at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hf_align.errors import UserError
from hf_align.pipeline.recipe import Pipeline, load_pipeline
from hf_align.pipeline.run import plan, plan_lines, run_pipeline


def load(folder: Path) -> Pipeline:
    (folder / "a.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
    path = folder / "p.yaml"
    path.write_text(
        f"output_dir: {folder}/out\nstages:\n"
        f"- {{command: sft, model_name_or_path: {folder}, datasets: {folder}/a.jsonl}}\n"
        f"- {{command: dpo, name: later, model_name_or_path: $sft, datasets: {folder}/a.jsonl}}\n"
    )
    return load_pipeline(["--config", str(path)])


def test_a_line_a_step(tmp_path: Path) -> None:
    lines = plan_lines(plan(load(tmp_path)))
    assert lines[0] == "2 steps, 2 to run:"
    assert lines[1].startswith("  sft    sft  runs: ") and lines[2].startswith("  later  dpo  runs: ")
    assert not (tmp_path / "out").exists(), "a plan changes nothing"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"notes.txt": "x"}, "holds something else and no pipeline"),
        ({"run.json": '{"command": "sft"}'}, "holds a run of hf-align sft and no pipeline"),
    ],
)
def test_a_folder_of_something_else(tmp_path: Path, content: dict[str, str], words: str) -> None:
    (tmp_path / "out").mkdir()
    for name, text in content.items():
        (tmp_path / "out" / name).write_text(text)
    with pytest.raises(UserError, match=words):
        plan(load(tmp_path))


def test_one_at_a_time_and_in_one_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = load(tmp_path)
    asked: list[str] = []

    def run_again(*given: Any) -> None:
        with pytest.raises(UserError, match="another process runs a pipeline"):
            run_pipeline(pipeline, [], finish=lambda record: {})
        asked.append("refused")

    planned = plan(pipeline)[:1]
    monkeypatch.setattr("hf_align.pipeline.run._run", run_again)
    record = run_pipeline(pipeline, planned, finish=lambda record: {"found": 1})
    assert asked == ["refused"] and record["status"] == "completed" and record["found"] == 1
    assert [step["status"] for step in record["steps"]] == ["waiting"]
    monkeypatch.setenv("NPROC", "2")
    with pytest.raises(UserError, match="runs each stage in one process"):
        run_pipeline(pipeline, planned, finish=lambda record: {})
