"""Two processes on a CPU train exactly what one trains."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers.tiny_checkpoint import save_tiny_checkpoint, write_orders
from safetensors.torch import load_file


def launch(recipe: Path, processes: int, nproc: int) -> subprocess.CompletedProcess[str]:
    launcher = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        f"--nproc-per-node={processes}",
    ]
    command = [
        *(launcher if processes > 1 else [sys.executable]),
        "-m",
        "hf_align",
        "sft",
        "--config",
        str(recipe),
    ]
    environment = {**os.environ, "NPROC": str(nproc), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)


def write_recipe(folder: Path, name: str, **options: object) -> Path:
    recipe = {
        "model_name_or_path": save_tiny_checkpoint(folder / "model"),
        # 21 rows in steps of 4: the last step has one row, so one of two ranks has none.
        "datasets": write_orders(folder / "train.jsonl", 21),
        "eval_datasets": write_orders(folder / "heldout.jsonl", 5, start=100),
        "eval_strategy": "epoch",
        "output_dir": str(folder / name),
        "use_cpu": True,
        "precision": "fp32",
        "num_train_epochs": 2,
        "max_length": 256,
        "learning_rate": 0.01,
        "optim": "sgd",
        "num_samples": 1,
        "sample_max_new_tokens": 2,
        "save_strategy": "no",
        **options,
    }
    path = folder / f"{name}.yaml"
    path.write_text(json.dumps(recipe), encoding="utf-8")
    return path


@pytest.mark.parametrize("options", [{}, {"adapter": "lora", "lora_r": 4}], ids=["full", "lora"])
def test_two_processes_equal_one(tmp_path: Path, options: dict) -> None:
    results = []
    for processes in (1, 2):
        recipe = write_recipe(
            tmp_path,
            f"run{processes}",
            per_device_train_batch_size=4 // processes,
            # A budget of one row: the ranks need different numbers of micro-batches.
            max_tokens_per_batch=100,
            **options,
        )
        done = launch(recipe, processes, nproc=processes)
        assert done.returncode == 0, done.stderr[-3000:]
        folder = tmp_path / f"run{processes}"
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        results.append((load_file(next(iter(folder.glob("*.safetensors")))), lines, done.stdout))
    (one, lines, _), (two, other_lines, output) = results
    assert one.keys() == two.keys()
    for name in one:
        torch.testing.assert_close(two[name], one[name], rtol=1e-4, atol=1e-6)
    assert [line["step"] for line in lines] == [line["step"] for line in other_lines]
    for line, other in zip(lines, other_lines, strict=True):
        for key in ("loss", "grad_norm", "target_tokens", "eval_loss", "eval_target_tokens"):
            if key in line:
                assert other[key] == pytest.approx(line[key], rel=1e-4), (key, line["step"])
    assert output.count("training rows") == 1, "one data report"


def test_too_few_processes_are_an_error(tmp_path: Path) -> None:
    done = launch(write_recipe(tmp_path, "run"), processes=1, nproc=2)
    assert done.returncode == 2
    assert "NPROC=2, but 1 process" in done.stderr
    assert "Traceback" not in done.stderr
