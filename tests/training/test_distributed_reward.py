"""Two processes on a CPU train the reward model that one process trains, and report the same metrics."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.tiny_rewards import make_inputs, run, write_recipe
from helpers.tiny_runs import merged_metrics, weights
from torch.testing import assert_close

TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
# 21 pairs in steps of 4: the last step of an epoch has one row, so one of two processes has none. A budget of
# one row: the processes need different numbers of micro-batches. Five held-out pairs: one has a row more.
COMMON = {
    "eval_strategy": "epoch",
    "save_strategy": "no",
    "max_tokens_per_batch": 100,
    "learning_rate": 0.05,
    "optim": "sgd",
    "num_train_epochs": 1,
}


@pytest.mark.slow
@pytest.mark.parametrize("adapter", [{}, {"adapter": "lora", "lora_r": 4}], ids=["full", "lora"])
def test_two_processes_equal_one(tmp_path: Path, adapter: dict) -> None:
    inputs = make_inputs(tmp_path, rows=21)
    one = run(inputs, tmp_path / "one", **COMMON, **adapter)
    recipe = write_recipe(inputs, tmp_path / "two", **{**COMMON, "per_device_train_batch_size": 2}, **adapter)
    done = subprocess.run(
        [sys.executable, *TORCHRUN, "-m", "hf_align", "reward", "--config", str(recipe)],
        env={**os.environ, "NPROC": "2", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("held-out accuracy") == 1
    ours, theirs = weights(tmp_path / "two"), weights(tmp_path / "one")
    assert ours.keys() == theirs.keys()
    for name, weight in theirs.items():
        assert_close(ours[name], weight, rtol=1e-4, atol=1e-6)
    lines, others = merged_metrics(tmp_path / "one"), merged_metrics(tmp_path / "two")
    for line, again in zip(lines, others, strict=True):
        assert line.keys() == again.keys()
        for key in line:
            assert again[key] == pytest.approx(line[key], rel=1e-3, abs=1e-5), (key, line["step"])
    two = json.loads((tmp_path / "two" / "run.json").read_text())
    for metric in ("mean", "std", "answers"):
        # The answers that only keep a process busy do not count.
        assert two["reward_reference"][metric] == pytest.approx(one["reward_reference"][metric], rel=1e-3)
    for when in ("before", "after"):
        for metric in ("pairs", "accuracy", "mean_margin", "ece"):
            expected = one["reward_evaluation"][when][metric]
            found = two["reward_evaluation"][when][metric]
            assert found == pytest.approx(expected, rel=1e-3, abs=1e-5), (when, metric)
