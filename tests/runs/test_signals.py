"""Ctrl-C, SIGTERM and a full disk: what was trained is saved, and the message says how to go on."""

from __future__ import annotations

import json
import resource
import shlex
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.tiny_runs import make_inputs, merged_metrics, run, same_weights, steps

from hf_align.commands import sft
from hf_align.config import load_config
from hf_align.errors import UserError
from hf_align.runs import signals
from hf_align.sft.recipe import SftConfig
from hf_align.training import stage
from hf_align.training.trainer import AlignTrainer

Steps = Callable[[int, Callable[[], None]], None]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return make_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.fixture
def in_step(monkeypatch: pytest.MonkeyPatch) -> Steps:
    """``in_step(n, action)``: do ``action`` inside the n-th training step."""
    original = AlignTrainer.training_step
    actions: dict[int, Callable[[], None]] = {}

    def step(self: AlignTrainer, *arguments: Any, **options: Any) -> Any:
        actions.get(self.state.global_step + 1, lambda: None)()
        return original(self, *arguments, **options)

    monkeypatch.setattr(AlignTrainer, "training_step", step)
    return actions.__setitem__


@pytest.mark.parametrize(
    ("signum", "status", "at", "save_strategy"),
    [
        (signal.SIGTERM, 143, 4, "no"),
        (signal.SIGINT, 130, 4, "epoch"),
        (signal.SIGINT, 130, 6, "epoch"),
        (signal.SIGTERM, 143, 12, "no"),
    ],
    ids=["inside_an_epoch", "inside_an_epoch_saving", "at_its_end", "at_the_end"],
)
def test_a_signal_saves_after_the_step_and_the_run_resumes_to_the_same_bits(
    inputs: dict[str, Any],
    tmp_path: Path,
    in_step: Steps,
    capsys: pytest.CaptureFixture[str],
    signum: int,
    status: int,
    at: int,
    save_strategy: str,
) -> None:
    options = {"save_strategy": save_strategy, "eval_strategy": "epoch", "save_total_limit": None}
    run(inputs, tmp_path / "whole", **options)
    capsys.readouterr()
    in_step(at, lambda: signal.raise_signal(signum))
    handlers = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(SystemExit) as stopped:
        run(inputs, tmp_path / "run", **options)
    assert stopped.value.code == status
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == handlers
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["status"] == "interrupted"
    assert record["last_checkpoint"] == f"checkpoint-{at}"
    assert at in steps(tmp_path / "run")
    message = capsys.readouterr().err
    assert f"checkpoint-{at}. Continue with:" in message
    command = shlex.split(message.split("Continue with:")[1])
    in_step(at, lambda: None)
    arguments = command[command.index("sft") + 1 :]
    assert load_config(SftConfig, arguments).training.resume_from_checkpoint == "auto"
    done = sft.main(arguments)
    assert done["status"] == "completed"
    assert same_weights(tmp_path / "run", tmp_path / "whole")
    assert merged_metrics(tmp_path / "run") == merged_metrics(tmp_path / "whole")


def test_a_second_ctrl_c_stops_at_once(
    inputs: dict[str, Any], tmp_path: Path, in_step: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(signals.time, "monotonic", lambda: now)

    def twice() -> None:
        nonlocal now
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)  # the same keystroke, passed on by a launcher
        now += 2.0
        signal.raise_signal(signal.SIGINT)

    in_step(3, twice)
    with pytest.raises(KeyboardInterrupt):
        run(inputs, tmp_path / "run", save_strategy="no")
    assert steps(tmp_path / "run") == []
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "interrupted"


def test_before_training_a_signal_stops_at_once(
    inputs: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "train", lambda *_, **__: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(SystemExit) as stopped:
        run(inputs, tmp_path / "run")
    assert stopped.value.code == 143
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "interrupted"


def test_a_signal_that_comes_twice_at_once_is_one_request() -> None:
    with signals.StopRequest() as stop, pytest.raises(signals.Stopped) as stopped, stop.training():
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        time.sleep(0)
    assert stopped.value.code == 143


@pytest.mark.parametrize("kilobytes", [64, 160, 1], ids=["in_the_weights", "in_the_optimizer", "in_all"])
def test_a_full_disk_is_explained_and_the_checkpoint_before_is_intact(
    inputs: dict[str, Any], tmp_path: Path, in_step: Steps, kilobytes: int
) -> None:
    # No file may grow beyond the limit from step 5 on: writing fails as on a full disk.
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    options = {"save_strategy": "steps", "save_steps": 4, "save_total_limit": 1}
    run(inputs, tmp_path / "whole", **options)
    saved = tmp_path / "whole" / "checkpoint-12"
    weights, optimizer = ((saved / n).stat().st_size for n in ("model.safetensors", "optimizer.pt"))
    assert 64 * 1024 < weights < 160 * 1024 < optimizer
    in_step(5, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (kilobytes * 1024, limits[1])))
    try:
        with pytest.raises(UserError) as error:
            run(inputs, tmp_path / "run", **options)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    message = str(error.value)
    assert "MiB are free" in message
    assert str(tmp_path / "run" / "checkpoint-4") in message
    assert "--resume_from_checkpoint auto" in message
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    if kilobytes > 1:
        assert record["status"] == "interrupted"
        what = "the weights in {}" if kilobytes == 64 else "{}/optimizer.pt"
        assert f"writing {what.format(tmp_path / 'run' / 'checkpoint-8')} failed" in message
    assert steps(tmp_path / "run") == [4], "the half-written one is gone: there was no room for it"
    in_step(5, lambda: None)
    run(inputs, tmp_path / "run", **options, resume_from_checkpoint="auto")
    assert same_weights(tmp_path / "run", tmp_path / "whole")
    assert merged_metrics(tmp_path / "run") == merged_metrics(tmp_path / "whole")
