"""What a step depends on: files by content wherever a recipe names them, other steps, code."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.tiny_pipeline import Pipeline

import hf_align
from hf_align.data.reading import sources
from hf_align.pipeline import state as pipeline_state
from hf_align.pipeline.recipe import load_pipeline
from hf_align.pipeline.stages import Step
from hf_align.pipeline.state import (
    OF_PYTHON,
    Planned,
    _own_code,
    digest_of,
    fingerprint,
    parts_of,
    plan_step,
    state_file,
    write_state,
)
from hf_align.stages import PIPELINE_COMMANDS, STAGES

PACKAGE = Path(hf_align.__file__).parent


@pytest.fixture(autouse=True)
def fresh() -> None:
    digest_of.cache_clear()


def steps(folder: Path, *stages: dict[str, object]) -> list[Step]:
    path = folder / "p.yaml"
    path.write_text(json.dumps({"output_dir": str(folder / "out"), "stages": stages}), encoding="utf-8")
    return list(load_pipeline(["--config", str(path)]).steps)


def test_files_count_by_content_and_steps_by_what_they_depend_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.jsonl").write_text("{}")
    (tmp_path / "own.py").write_text("")
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "config.json").write_text("{}")
    # A file that happens to be called like a split or a choice is none that the recipe names.
    for name in ("train", "lora", "auto"):
        (tmp_path / name).write_text("")
    sft, ppo = steps(
        tmp_path,
        {
            "command": "sft",
            "model_name_or_path": "base",
            "datasets": [{"path": "rows.jsonl", "split": "train"}],
        },
        {
            "command": "ppo",
            "model_name_or_path": "$sft",
            "datasets": "hub/set",
            "reward_functions": "own.py:f",
        },
    )
    before = parts_of(sft, {})
    assert set(before["files"]) == {"base", "rows.jsonl"}
    after = parts_of(ppo, {"sft": "abc"})
    assert set(after["files"]) == {"own.py:f"} and after["steps"] == {"sft": "abc"}
    assert "output_dir" not in after["recipe"]

    digest_of.cache_clear()
    (tmp_path / "base" / "config.json").write_text("{ }")
    changed = parts_of(sft, {})
    assert {name for name in changed["files"] if changed["files"][name] != before["files"][name]} == {"base"}
    assert fingerprint(changed) != fingerprint(before)


def test_planning_imports_no_torch() -> None:
    code = (
        "import sys, hf_align.commands.pipeline, hf_align.pipeline.run\n"
        "sys.exit(bool({'torch', 'transformers', 'numpy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_sets_out_of_python_are_those_of_the_readers() -> None:
    assert set(OF_PYTHON) == set(sources._OF_PYTHON)


def test_documentation_of_python_is_that_of_its_version(tmp_path: Path) -> None:
    (step,) = steps(tmp_path, {"command": "tokenizer", "datasets": "python_docs"})
    assert parts_of(step, {})["files"]["python_docs"].startswith("Python 3.")


def test_names_of_files_in_a_folder_count(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "a").write_text("x")
    first = digest_of(tmp_path / "one")
    digest_of.cache_clear()
    (tmp_path / "one" / "a").rename(tmp_path / "one" / "b")
    assert digest_of(tmp_path / "one") != first


def test_other_code_runs_again_unless_it_is_to_be_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pipeline = Pipeline(tmp_path, monkeypatch)
    assert pipeline.run() == 0
    monkeypatch.setattr(pipeline_state, "code_digest", lambda *patterns: {"torch": "99"})
    capsys.readouterr()
    assert pipeline.run("--dry_run") == 0
    said = capsys.readouterr().out
    assert "runs: hf_align or its libraries changed (keep_after_upgrade: true reuses it)" in said
    assert pipeline.run("--keep_after_upgrade") == 0 and pipeline.ran == []
    # What is kept is not what was not made: another change still counts, and only from there on.
    pipeline.stages[1]["max_new_tokens"] = 4
    assert pipeline.run("--keep_after_upgrade") == 0 and pipeline.ran == ["raft", "evaluate"]
    assert pipeline.run() == 0 and pipeline.ran == ["sft", "raft", "evaluate"]


def test_keys_of_speed_and_memory_run_nothing_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = Pipeline(tmp_path, monkeypatch)
    assert pipeline.run() == 0
    pipeline.stages[0] |= {"max_tokens_per_batch": 100, "packing": False, "gradient_checkpointing": True}
    pipeline.stages[1] |= {"generation_batch_size": 1}
    assert pipeline.run() == 0 and pipeline.ran == []
    pipeline.stages[1]["keep_best"] = 2
    assert pipeline.run() == 0 and pipeline.ran == ["raft", "evaluate"]
    pipeline.stages[0]["num_samples"] = 1
    assert pipeline.run() == 0 and pipeline.ran == ["sft", "raft", "evaluate"]


@pytest.mark.parametrize("status", ["completed", "interrupted"])
def test_what_an_older_release_has_made_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: str
) -> None:
    """It counted keys of speed and memory too; its fingerprints are then part of those of later steps."""
    pipeline = Pipeline(tmp_path, monkeypatch)
    assert pipeline.run() == 0
    known: dict[str, str] = {}
    for name in ("sft", "raft", "evaluate"):
        path = pipeline.out / "pipeline" / "state" / f"{name}.json"
        state = json.loads(path.read_bytes())
        parts = state["parts"]
        parts["recipe"]["max_tokens_per_batch"] = 4096
        parts["steps"] = {step: known[step] for step in parts["steps"]}
        known[name] = state["fingerprint"] = fingerprint(parts)
        path.write_text(json.dumps({**state, "status": status if name == "evaluate" else "completed"}))
    again = [] if status == "completed" else ["evaluate"]
    assert pipeline.run() == 0 and pipeline.ran == again
    assert pipeline.run() == 0 and pipeline.ran == []


@pytest.mark.parametrize("command", ["ppo", "grpo"])
def test_a_key_that_has_been_renamed_since_is_the_same_key(tmp_path: Path, command: str) -> None:
    stage = {
        "command": command,
        "model_name_or_path": "m",
        "datasets": "hub/set",
        "reward_functions": "a.py:f",
    }
    (step,) = steps(tmp_path, {**stage, "num_generations": 3})
    assert parts_of(step, {})["recipe"]["num_generations"] == 3
    parts = parts_of(step, {})
    parts["recipe"]["samples_per_prompt"] = parts["recipe"].pop("num_generations")
    older = Planned(step, "run", "", fingerprint(parts), parts)
    write_state(state_file(tmp_path, step), older)
    planned = plan_step(step, str(tmp_path), {}, keep_after_upgrade=False, rerun=False)
    assert planned.fingerprint == older.fingerprint
    (other,) = steps(tmp_path, {**stage, "num_generations": 4})
    planned = plan_step(other, str(tmp_path), {}, keep_after_upgrade=False, rerun=False)
    assert planned.fingerprint != older.fingerprint


@pytest.mark.parametrize("command", PIPELINE_COMMANDS)
def test_the_code_of_every_command_counts(command: str) -> None:
    module = STAGES[command].command.removeprefix("hf_align.").replace(".", "/")
    matched = {path for pattern in _own_code(command) for path in PACKAGE.glob(pattern)}
    assert PACKAGE / f"{module}.py" in matched
    if command == "grpo":
        assert PACKAGE / "rl" / "loop.py" in matched


def test_a_run_that_somebody_else_has_put_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pipeline = Pipeline(tmp_path, monkeypatch)
    assert pipeline.run() == 0
    record = {"command": "sft", "status": "completed", "started": "another day"}
    (pipeline.out / "sft" / "run.json").write_text(json.dumps(record))
    capsys.readouterr()
    assert pipeline.run() == 0 and pipeline.ran == ["sft", "raft", "evaluate"]
    assert "holds another run" in capsys.readouterr().out


def test_what_builds_on_a_new_run_runs_again_even_after_an_interruption(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = Pipeline(tmp_path, monkeypatch)
    assert pipeline.run() == 0
    # The first stage is made anew, the second never begins: its old result is of the old first stage.
    pipeline.failing = {"raft"}
    assert pipeline.run("--rerun", "sft") == 2 and pipeline.ran == ["sft", "raft"]
    (pipeline.out / "pipeline" / "state" / "raft.json").write_bytes(_completed(pipeline))
    pipeline.failing = set()
    assert pipeline.run() == 0 and pipeline.ran == ["raft", "evaluate"]


def _completed(pipeline: Pipeline) -> bytes:
    """The state of the second stage as it was before: done, on the first run of the first stage."""
    state = json.loads((pipeline.out / "pipeline" / "state" / "raft.json").read_bytes())
    started = json.loads((pipeline.out / "raft" / "run.json").read_bytes())["started"]
    return json.dumps(
        {**state, "status": "completed", "run_started": started, "built_on": {"sft": "0"}}
    ).encode()
