"""Two processes on a CPU align exactly as one does, and share the work of the reference."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.tiny_preferences import make_inputs, run, write_recipe
from helpers.tiny_runs import merged_metrics, weights

TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
# 21 rows in steps of 4: the last step of an epoch has one row, so one of two processes has none.
# A budget of about two rows: the processes need different numbers of micro-batches.
COMMON = {
    "eval_strategy": "epoch",
    "save_strategy": "no",
    "max_tokens_per_batch": 150,
    "learning_rate": 0.1,
    "optim": "sgd",
    "num_train_epochs": 1,
}


def in_two_processes(recipe: Path) -> str:
    done = subprocess.run(
        [sys.executable, *TORCHRUN, "-m", "hf_align", "dpo", "--config", str(recipe)],
        env={**os.environ, "NPROC": "2", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return make_inputs(tmp_path_factory.mktemp("inputs"), rows=21)


def stored(folder: Path) -> list[bytes]:
    """What the only entry of a cache holds, beside its manifest."""
    (entry,) = (path for path in folder.iterdir() if path.is_dir())
    return [(entry / name).read_bytes() for name in ("logps.bin", "ends.bin")]


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"adapter": "lora", "lora_r": 4, "learning_rate": 1.0, "loss": "ipo"},
        {"adapter": "lora", "lora_r": 4, "loss": "aot"},
    ],
    ids=["full", "lora", "sorted over the step"],
)
def test_two_processes_equal_one(inputs: dict[str, Any], tmp_path: Path, options: dict[str, Any]) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    caches = {
        folder: {**inputs, "dataset_cache_dir": str(folder.with_name(f"{folder.name}-cache"))}
        for folder in (one, two)
    }
    options = {**COMMON, **options}
    run(caches[one], one, **options)
    output = in_two_processes(write_recipe(caches[two], two, **options, per_device_train_batch_size=2))
    assert output.count("training rows") == 1 and output.count("report: ") == 1
    record, other = (json.loads((folder / "run.json").read_text()) for folder in (one, two))
    if "adapter" not in options:
        folders = [Path(str(cached["dataset_cache_dir"])) for cached in caches.values()]
        assert stored(folders[0]) == stored(folders[1]), "each process ran its share, to the same bits"
        assert not other["reference"]["reused"]
        again = in_two_processes(
            write_recipe(caches[two], tmp_path / "again", **options, per_device_train_batch_size=2)
        )
        assert "report: " in again
        assert json.loads((tmp_path / "again" / "run.json").read_text())["reference"]["reused"]
    ours, theirs = weights(two), weights(one)
    for name in theirs:
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-4, atol=1e-6)
    for line, same in zip(merged_metrics(one), merged_metrics(two), strict=True):
        assert line.keys() == same.keys()
        assert same == pytest.approx(line, rel=1e-4, abs=1e-5)
    for when in ("before", "after"):
        before, after = (one["preference_summary"][when] for one in (record, other))
        for key, value in before.items():
            assert after[key] == pytest.approx(value, rel=1e-4, abs=1e-5), key
    assert other["start_check"]["checked"]
