"""Two processes on a CPU train exactly what one trains, and go on from each other's checkpoints."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.tiny_runs import make_inputs, merged_metrics, run, same_weights, steps, weights, write_recipe

from hf_align.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
ACCELERATE = [
    "-m",
    "accelerate.commands.launch",
    f"--config_file={ROOT / 'recipes/accelerate/cpu_2proc.yaml'}",
    "--main_process_port=0",
]
# 21 rows in steps of 4: the last step of an epoch has one row, so one of two processes has none.
# A budget of one row: the processes need different numbers of micro-batches.
COMMON = {
    "eval_strategy": "epoch",
    "save_strategy": "steps",
    "save_steps": 4,
    "save_total_limit": None,
    "max_tokens_per_batch": 100,
    "learning_rate": 0.01,
    "optim": "sgd",
}


def command(recipe: Path, launcher: list[str]) -> list[str]:
    return [sys.executable, *launcher, "-m", "hf_align", "sft", "--config", str(recipe)]


def environment(nproc: int) -> dict[str, str]:
    return {**os.environ, "NPROC": str(nproc), "OMP_NUM_THREADS": "1"}


def launch(recipe: Path, launcher: list[str], nproc: int = 2) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(recipe, launcher), env=environment(nproc), capture_output=True, text=True, timeout=240
    )


def succeed(recipe: Path, launcher: list[str] = TORCHRUN) -> str:
    done = launch(recipe, launcher)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return make_inputs(tmp_path_factory.mktemp("inputs"), rows=21)


@pytest.fixture(scope="module")
def two(inputs: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder and the output of an uninterrupted run of two processes, with checkpoints at 4, 8 and 12."""
    folder = tmp_path_factory.mktemp("two") / "run"
    return folder, succeed(write_recipe(inputs, folder, **COMMON, per_device_train_batch_size=2))


def assert_close(ours: Path, theirs: Path) -> None:
    one, other = weights(theirs), weights(ours)
    assert one.keys() == other.keys()
    for name in one:
        torch.testing.assert_close(other[name], one[name], rtol=1e-4, atol=1e-6)
    lines, others = merged_metrics(theirs), merged_metrics(ours)
    assert [line["step"] for line in lines] == [line["step"] for line in others]
    for line, again in zip(lines, others, strict=True):
        for key in ("loss", "grad_norm", "target_tokens", "eval_loss", "eval_target_tokens"):
            assert (key in again) == (key in line)
            if key in line:
                assert again[key] == pytest.approx(line[key], rel=1e-4), (key, line["step"])


def test_two_processes_equal_one(inputs: dict[str, Any], two: tuple[Path, str], tmp_path: Path) -> None:
    folder, output = two
    run(inputs, tmp_path / "one", **COMMON)
    assert_close(folder, tmp_path / "one")
    assert output.count("training rows") == 1, "one data report"
    assert output.count("report: ") == 1
    assert (folder / "checkpoint-4" / "rng_state_1.pth").is_file()


def test_two_processes_resume_to_the_same_bits(
    inputs: dict[str, Any], two: tuple[Path, str], tmp_path: Path
) -> None:
    part = Path(shutil.copytree(two[0], tmp_path / "part"))
    shutil.rmtree(part / "checkpoint-12")
    (part / "checkpoint-8" / "rng_state_1.pth").unlink()
    recipe = write_recipe(
        inputs, part, **COMMON, per_device_train_batch_size=2, resume_from_checkpoint="auto"
    )
    succeed(recipe, ACCELERATE)
    assert (part / "incomplete-checkpoint-8").is_dir(), "the random state of one process was missing"
    assert same_weights(part, two[0])
    assert merged_metrics(part) == merged_metrics(two[0])


def test_one_process_goes_on_from_two_where_that_is_exact(
    inputs: dict[str, Any], two: tuple[Path, str], tmp_path: Path
) -> None:
    part = Path(shutil.copytree(two[0], tmp_path / "part"))
    shutil.rmtree(part / "checkpoint-12")
    with pytest.raises(UserError, match="an optimizer step had 4 rows and has 2"):
        run(inputs, part, **COMMON, per_device_train_batch_size=2, resume_from_checkpoint="auto")
    run(inputs, part, **COMMON, resume_from_checkpoint="auto")
    assert_close(part, two[0])


@pytest.mark.slow
def test_two_processes_equal_one_with_lora(inputs: dict[str, Any], tmp_path: Path) -> None:
    lora = {**COMMON, "adapter": "lora", "lora_r": 4, "save_strategy": "no"}
    lora.pop("save_steps")
    run(inputs, tmp_path / "one", **lora)
    succeed(write_recipe(inputs, tmp_path / "two", **lora, per_device_train_batch_size=2))
    assert_close(tmp_path / "two", tmp_path / "one")


@pytest.mark.slow
@pytest.mark.parametrize("what", ["gradients", "answers"])
def test_those_of_a_sharded_model_equal_those_of_a_whole_one(what: str) -> None:
    script = Path(__file__).resolve().parents[1] / "helpers" / f"sharded_{what}.py"
    done = subprocess.run(
        [sys.executable, *TORCHRUN, str(script)],
        env={**environment(2), "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("equal") == 2


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_all_processes_stop_after_the_same_step(
    inputs: dict[str, Any], two: tuple[Path, str], tmp_path: Path, signum: int
) -> None:
    folder = tmp_path / "run"
    recipe = write_recipe(
        inputs, folder, **{**COMMON, "num_train_epochs": 500}, per_device_train_batch_size=2
    )
    with (tmp_path / "log").open("w") as log:
        child = subprocess.Popen(
            command(recipe, TORCHRUN),
            env=environment(2),
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        deadline = time.monotonic() + 120
        while not (folder / "checkpoint-8").is_dir() and time.monotonic() < deadline:
            time.sleep(0.02)
        # As a terminal does it: to the launcher and to the processes, which get it from the launcher again.
        os.killpg(child.pid, signum)
        assert child.wait(timeout=60) != 0
    output = (tmp_path / "log").read_text()
    assert "finishing the step" in output
    record = json.loads((folder / "run.json").read_text())
    assert record["status"] == "interrupted"
    assert record["last_checkpoint"] == f"checkpoint-{max(steps(folder))}", output[-2000:]
    assert "torch.distributed.run --standalone --nproc_per_node 2" in output
    assert "--resume_from_checkpoint auto" in output


def test_too_few_processes_are_an_error(inputs: dict[str, Any], tmp_path: Path) -> None:
    done = launch(write_recipe(inputs, tmp_path / "run", **COMMON), launcher=[], nproc=2)
    assert done.returncode == 2
    assert "NPROC=2, but 1 process" in done.stderr
    assert "Traceback" not in done.stderr
