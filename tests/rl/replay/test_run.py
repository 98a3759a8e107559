"""A recorded update computed again gives what was logged, to the bit; and what is missing is said."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers.recorded_ppo_runs import STATEFUL, again_of
from helpers.tiny_ppo import make_inputs, run, write_recipe
from safetensors.numpy import load_file
from safetensors.torch import load_file as load_weights
from safetensors.torch import save_file

from hf_align.errors import UserError
from hf_align.rl import loop
from hf_align.rl.replay.breakdown import breakdowns
from hf_align.rl.replay.recording import path_of, recorded_steps
from hf_align.rl.replay.run import differing, replay
from hf_align.rl.replay.view import as_recorded, verdict
from hf_align.runs.metrics import read_metrics, training_rows

ROOT = Path(__file__).resolve().parents[3]
RUNS: dict[str, dict[str, Any]] = {
    "full": {"max_tokens_per_batch": 60},
    "lora": {"adapter": "lora", "lora_r": 4, "kl_estimator": "k3"},
    "own trunk, padded": {"value_model": "separate", "value_head_init": "normal", "packing": False},
    "stopped by the KL": {"kl_stop": 1e-5, "num_ppo_epochs": 4},
    "qlora": {"adapter": "lora", "lora_r": 4, "load_in_4bit": True, "optim": "adamw_8bit"},
}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return make_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.fixture(scope="module")
def done(inputs: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four rollouts with checkpoints at 2 and 4; not to be changed."""
    folder = tmp_path_factory.mktemp("run") / "run"
    run(inputs, folder, **STATEFUL)
    return folder


@pytest.fixture
def copy(done: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(done, tmp_path / "copy"))


def content(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("kind", RUNS)
def test_every_metric_comes_out_again_to_the_bit(inputs: dict[str, Any], tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "run"
    run(inputs, folder, **{**STATEFUL, **RUNS[kind]})
    logged = training_rows(read_metrics(folder / "metrics.jsonl").rows)
    before = content(folder)
    for step, start, between in ((1, 0, []), (2, 0, [1]), (4, 2, [3])):
        replayed = replay(folder, step)
        again = again_of(replayed)
        assert again.base.step == start and list(again.on_the_way) == between
        assert not any(again.on_the_way.values()) and not any(again.measured.values())
        assert as_recorded(replayed) and again.failure == ""
        left = {name for name in logged[step - 1] if name not in again.metrics}
        timings = {name for name in left if name.endswith("_seconds")}
        assert left - timings == {"step", "tokens_per_second", "peak_memory_bytes"}
        assert differing(logged[step - 1], again.metrics) == []  # type: ignore[arg-type]
        for name in ("policy_loss", "value_loss"):
            assert again.trace.shares[name].sum() == pytest.approx(again.metrics[name], rel=1e-5, abs=1e-7)
        assert again.trace.steps == again.metrics["update_steps"]
    assert content(folder) == before, "the run folder is only read"


def test_other_weights_show_up(copy: Path) -> None:
    path = copy / "checkpoint-2" / "model.safetensors"
    weights = load_weights(path)
    name = next(name for name in weights if "mlp.down_proj" in name)
    save_file(weights | {name: weights[name] * 1.5}, path, {"format": "pt"})
    replayed = replay(copy, 4)
    again = again_of(replayed)
    assert again.measured["logps"] > 1e-6 and not as_recorded(replayed)
    assert "policy_loss" in differing(replayed.recording.metrics, again.metrics)
    said = " ".join(verdict(replayed))
    assert "1 of 1 updates are not as logged, first those of rollout 3" in said and "metrics differ" in said


def test_a_resumed_run_writes_the_same_rollouts_again(inputs: dict[str, Any], done: Path, copy: Path) -> None:
    shutil.rmtree(copy / "checkpoint-4")
    shutil.copy(path_of(copy, 4), path_of(copy, 9))  # of a part of the run that is gone
    run(inputs, copy, **STATEFUL, resume_from_checkpoint="auto")
    assert recorded_steps(copy) == [1, 2, 3, 4]
    for step in (3, 4):
        ours, theirs = (load_file(path_of(folder, step)) for folder in (copy, done))
        assert {name: ours[name].tobytes() for name in ours} == {
            name: theirs[name].tobytes() for name in theirs
        }
    assert as_recorded(replay(copy, 4))


def test_an_update_that_failed_is_recorded_and_computed(
    inputs: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = loop.update

    def fails(*arguments: Any, **options: Any) -> dict[str, float]:
        if options["seed"][-1] == 2:
            raise UserError("rollout 3: loss nan")
        return inner(*arguments, **options)

    monkeypatch.setattr(loop, "update", fails)
    with pytest.raises(UserError, match="loss nan"):
        run(inputs, tmp_path / "run", **STATEFUL)
    replayed = replay(tmp_path / "run", 3)
    assert not replayed.recording.finished and not as_recorded(replayed)
    assert "The run ended in this update" in verdict(replayed)[0]
    again = again_of(replayed)
    assert differing(replayed.recording.metrics, again.metrics) == [] and again.metrics["update_steps"] == 4


def test_a_loss_that_is_no_number_ends_the_replay_as_it_ended_the_run(copy: Path) -> None:
    path = copy / "checkpoint-2" / "value_head.safetensors"
    weights = load_weights(path)
    save_file({name: values * float("inf") for name, values in weights.items()}, path)
    replayed = replay(copy, 3)
    assert "rollout 3" in again_of(replayed).failure and "The update stops: " in " ".join(verdict(replayed))
    assert breakdowns(replayed)[0].tokens["ratio"].shape == breakdowns(replayed)[0].ids.shape


def test_what_cannot_be_replayed_is_said(copy: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no such folder"):
        replay(tmp_path / "nowhere", 1)
    with pytest.raises(UserError, match=r"rollout 5 is not recorded\. Recorded: 1-4\."):
        replay(copy, 5)
    with pytest.raises(UserError, match="--episode: found 9; rollout 1 has 8 answers"):
        replay(copy, 1, answer=9)
    path_of(copy, 3).write_bytes(b"x")
    with pytest.raises(UserError, match=r"rollout-000003\.safetensors: this is not a whole recording"):
        replay(copy, 4)
    record = json.loads((copy / "run.json").read_text())
    (copy / "run.json").write_text(json.dumps(record | {"recipe": record["recipe"] | {"clip": 1}}))
    with pytest.raises(UserError, match=r"run\.json: its recipe cannot be read: clip: unknown key"):
        replay(copy, 1)
    recipe = record["recipe"] | {"model_name_or_path": str(tmp_path / "gone")}
    (copy / "run.json").write_text(json.dumps(record | {"recipe": recipe}))
    with pytest.raises(UserError, match="gone"):
        replay(copy, 1)
    (copy / "run.json").write_text(json.dumps(record | {"command": "sft"}))
    with pytest.raises(UserError, match="this is a run of hf-align sft; expected one of ppo"):
        replay(copy, 1)


@pytest.mark.slow
def test_a_run_of_two_processes_is_replayed_in_one(inputs: dict[str, Any], tmp_path: Path) -> None:
    recipe = write_recipe(inputs, tmp_path / "run", **STATEFUL)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "NPROC": "2"}
    ran = subprocess.run(
        [*command, "-m", "hf_align", "ppo", "--config", str(recipe)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    assert recorded_steps(tmp_path / "run") == [1, 2, 3, 4]
    first = again_of(replay(tmp_path / "run", 1))
    assert not any(first.measured.values()), "each process's share is measured by itself"
    for step in (1, 4):
        replayed = replay(tmp_path / "run", step)
        again = again_of(replayed)
        assert any("2 processes" in note for note in replayed.notes)
        for name, value in replayed.recording.metrics.items():
            if name in again.metrics:
                assert again.metrics[name] == pytest.approx(value, rel=1e-3, abs=1e-5), name
