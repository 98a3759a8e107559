"""The pipeline command: what runs, what is reused, what runs again, and how it goes on after a failure."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from helpers.tiny_checkpoint import write_orders
from helpers.tiny_pipeline import Pipeline


@pytest.fixture
def pipeline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pipeline:
    return Pipeline(tmp_path, monkeypatch)


def test_stages_run_on_each_other_and_are_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pipeline = Pipeline(tmp_path, monkeypatch, real=True)
    assert pipeline.run() == 0
    assert pipeline.ran == ["sft", "raft", "evaluate"]
    record = json.loads((pipeline.out / "run.json").read_bytes())
    assert record["command"] == "pipeline" and record["status"] == "completed"
    assert [step["status"] for step in record["steps"]] == ["completed"] * 3
    # The stage after it was given the folder of the first.
    assert f"model_name_or_path: {pipeline.out}/sft\n" in pipeline.recipes["raft"]
    (evaluation,) = record["pipeline"]["evaluations"]
    measured = json.loads((pipeline.out / "evaluate" / "evaluation.json").read_bytes())
    reward = measured["results"]["reward"]["held, by vowels"]["raft"]
    entry = evaluation["results"]["reward"]["held, by vowels"]["raft"]
    assert entry["figures"]["reward"]["mean"] == reward["reward"]
    change = entry["differences"]["reward"]
    assert change["mean"] == pytest.approx(reward["difference"]["value"])
    # One seed: the interval is the one of the evaluation itself.
    assert change["over_prompts"] == reward["difference"]["interval"]
    page = (pipeline.out / "report.html").read_text(encoding="utf-8")
    assert 'href="sft/report.html"' in page and "What each stage changed" in page
    assert "| raft |" in (pipeline.out / "README.md").read_text(encoding="utf-8")
    capsys.readouterr()
    assert pipeline.run() == 0 and pipeline.ran == []
    assert "3 steps, 0 to run" in capsys.readouterr().out


def test_a_step_runs_again_for_whatever_it_depends_on(pipeline: Pipeline) -> None:
    assert pipeline.run() == 0 and pipeline.ran == ["sft", "raft", "evaluate"]
    assert pipeline.run() == 0 and pipeline.ran == []
    pipeline.stages[2]["max_new_tokens"] = 4
    assert pipeline.run() == 0 and pipeline.ran == ["evaluate"]
    (pipeline.folder / "mine.py").write_text("def vowels(p, c, r):\n    return [1.0] * len(c)\n")
    assert pipeline.run() == 0 and pipeline.ran == ["raft", "evaluate"]
    write_orders(pipeline.folder / "train.jsonl", 7)
    assert pipeline.run() == 0 and pipeline.ran == ["sft", "raft", "evaluate"]
    shutil.rmtree(pipeline.out / "raft")
    assert pipeline.run() == 0 and pipeline.ran == ["raft", "evaluate"]
    assert pipeline.run("--rerun", "evaluate") == 0 and pipeline.ran == ["evaluate"]


def test_a_failed_step_is_named_and_the_next_run_goes_on_there(
    pipeline: Pipeline, capsys: pytest.CaptureFixture[str]
) -> None:
    pipeline.failing = {"raft"}
    assert pipeline.run() == 2
    error = capsys.readouterr().err
    assert "stages entry 2 (raft): this stage failed (exit status 1)" in error
    assert "pipeline/logs/raft.log" in error and "pipeline --config" in error
    assert json.loads((pipeline.out / "run.json").read_bytes())["status"] == "interrupted"
    pipeline.failing = set()
    assert pipeline.run() == 0 and pipeline.ran == ["raft", "evaluate"]
    # A run of best-of-n that was cut short goes on with what is in its folder.
    assert "resume" not in pipeline.recipes["raft"]


def test_a_step_that_was_cut_short_is_resumed_and_a_changed_one_is_not(pipeline: Pipeline) -> None:
    pipeline.stages = pipeline.stages[:1]
    pipeline.failing = {"sft"}
    assert pipeline.run() == 2
    pipeline.failing = set()
    assert pipeline.run() == 0
    assert "resume_from_checkpoint: auto\n" in pipeline.recipes["sft"]
    pipeline.failing = {"sft"}
    assert pipeline.run("--rerun", "sft") == 2
    pipeline.failing, pipeline.stages[0]["learning_rate"] = set(), 2e-3
    assert pipeline.run() == 0
    assert "resume_from_checkpoint" not in pipeline.recipes["sft"]


def test_what_builds_on_a_step_with_several_seeds_has_as_many(pipeline: Pipeline) -> None:
    pipeline.options["seeds"] = [3, 5]
    pipeline.stages[0]["every_seed"] = True
    assert pipeline.run("--dry_run", "true") == 0
    assert pipeline.ran == [] and not pipeline.out.exists()
    pipeline.stages = pipeline.stages[:1]
    assert pipeline.run() == 0 and pipeline.ran == ["sft-seed3", "sft-seed5"]
    assert "seed: 3\n" in pipeline.recipes["sft-seed3"] and "seed: 5\n" in pipeline.recipes["sft-seed5"]


def test_a_dry_run_says_what_would_run_and_why(
    pipeline: Pipeline, capsys: pytest.CaptureFixture[str]
) -> None:
    pipeline.stages = pipeline.stages[:1]
    assert pipeline.run() == 0
    pipeline.stages[0]["learning_rate"] = 2e-3
    capsys.readouterr()
    assert pipeline.run("--dry_run") == 0
    assert "runs: learning_rate changed" in capsys.readouterr().out
    assert pipeline.ran == []


def test_a_folder_of_something_else_is_left_alone(
    pipeline: Pipeline, capsys: pytest.CaptureFixture[str]
) -> None:
    pipeline.out.mkdir()
    (pipeline.out / "letter.txt").write_text("mine")
    assert pipeline.run() == 2
    assert "holds something else and no pipeline" in capsys.readouterr().err
    assert [path.name for path in pipeline.out.iterdir()] == ["letter.txt"]


def test_a_folder_with_pipelines_in_it_is_none(
    pipeline: Pipeline, capsys: pytest.CaptureFixture[str]
) -> None:
    pipeline.options["output_dir"] = str(pipeline.folder / "runs" / "pipeline")
    assert pipeline.run() == 0
    pipeline.options["output_dir"] = str(pipeline.folder / "runs")
    assert pipeline.run() == 2
    assert "holds something else and no pipeline" in capsys.readouterr().err


def test_two_pipelines_do_not_use_one_folder_at_a_time(
    pipeline: Pipeline, capsys: pytest.CaptureFixture[str]
) -> None:
    fcntl = pytest.importorskip("fcntl")
    assert pipeline.run() == 0
    with (pipeline.out / "pipeline" / "lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert pipeline.run() == 2
    assert "another process runs a pipeline in" in capsys.readouterr().err
    assert pipeline.run() == 0


def test_several_processes_are_refused(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NPROC", "2")
    assert pipeline.run() == 2
    assert "leave NPROC out" in capsys.readouterr().err
