"""Two processes on a CPU learn what one learns, and a whole run of two goes on from its checkpoints."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.tiny_ppo import make_inputs, write_recipe
from helpers.tiny_runs import same_weights, steps
from safetensors.torch import load_file

from hf_align.rl.value_head import VALUE_FILE

ROOT = Path(__file__).resolve().parents[2]
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]


def start(arguments: list[str], processes: int) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    launcher = TORCHRUN if processes == 2 else []
    done = subprocess.run(
        [sys.executable, *launcher, *arguments],
        env={**environment, "NPROC": str(processes)},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


SHORT = {"num_mini_batches": 4, "rollout_batch_size": 5, "num_generations": 2}
ALGORITHMS: dict[str, dict[str, Any]] = {
    "ppo": {},
    "grpo": {"algorithm": "grpo", "loss_type": "grpo", "beta": 0.1, "num_iterations": 2},
    "dapo": {"algorithm": "grpo", "mask_truncated_completions": True, "num_iterations": 2},
    "dr_grpo": {"algorithm": "grpo", "loss_type": "dr_grpo", "scale_rewards": "none", "num_iterations": 2},
    "rloo": {"algorithm": "rloo", "num_iterations": 2},
    "reinforce_pp": {"algorithm": "reinforce_pp", "baseline": "batch", "num_iterations": 2},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ALGORITHMS)
def test_an_update_by_two_processes_is_that_of_one(tmp_path: Path, name: str) -> None:
    script = str(ROOT / "tests" / "helpers" / "ppo_on_processes.py")
    files = [tmp_path / "1.safetensors", tmp_path / "2.safetensors"]
    for processes, file in enumerate(files, start=1):
        settings = [json.dumps(SHORT | ALGORITHMS[name])] if ALGORITHMS[name] else []
        start([script, str(file), *settings], processes)
    one, two = map(load_file, files)
    assert one.keys() == two.keys()
    for key in one:
        torch.testing.assert_close(two[key], one[key], rtol=1e-4, atol=1e-6, msg=key)
    metrics, others = (json.loads(file.with_suffix(".json").read_text()) for file in files)
    assert metrics["update_steps"] == 8
    for key, value in metrics.items():
        assert others[key] == pytest.approx(value, rel=1e-3, abs=1e-5), key


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["full", "lora"])
def test_a_run_of_two_processes_resumes_to_the_same_bits(tmp_path: Path, kind: str) -> None:
    inputs = make_inputs(tmp_path)
    options = {"save_steps": 2, "save_total_limit": None, "max_tokens_per_batch": 100}
    if kind == "lora":
        options |= {"adapter": "lora", "lora_r": 4, "rollout_batch_size": 5}
    whole, part = tmp_path / "whole", tmp_path / "part"
    output = start(["-m", "hf_align", "ppo", "--config", str(write_recipe(inputs, whole, **options))], 2)
    assert output.count("last rollout: ") == 1, "one report"
    assert steps(whole) == [2, 4] and (whole / "checkpoint-2" / "rng_state_1.pth").is_file()
    shutil.copytree(whole, part)
    shutil.rmtree(part / "checkpoint-4")
    recipe = write_recipe(inputs, part, **options, resume_from_checkpoint="auto")
    start(["-m", "hf_align", "ppo", "--config", str(recipe)], 2)
    assert same_weights(part, whole)
    assert (part / VALUE_FILE).read_bytes() == (whole / VALUE_FILE).read_bytes()


@pytest.mark.slow
def test_the_watch_takes_both_processes_back_to_the_same_checkpoint(tmp_path: Path) -> None:
    inputs = make_inputs(tmp_path)
    (tmp_path / "rewards.py").write_text(
        "def pays_for_e(prompts, completions, rows): return [float(t.count('e')) for t in completions]\n"
        "def variety(prompts, completions, rows): return [len(set(t)) / (len(t) or 1) for t in completions]\n"
    )
    names = {"reward_functions": "pays_for_e", "watch_reward_functions": "variety"}
    rewards = {key: f"{tmp_path / 'rewards.py'}:{name}" for key, name in names.items()}
    options = {"rollout_batch_size": 8, "num_generations": 4, "num_ppo_epochs": 4, "kl_coef": 0.0}
    options |= {"learning_rate": 0.01, "lr_scheduler_type": "constant", "num_rollouts": 14, "save_steps": 1}
    options |= {"watch_action": "roll_back", "watch_window": 2, "watch_patience": 2}
    run = tmp_path / "run"
    recipe = write_recipe(inputs | rewards, run, **options)
    output = start(["-m", "hf_align", "ppo", "--config", str(recipe)], 2)
    record = json.loads((run / "run.json").read_text())
    assert record["status"] == "rolled back" and output.count(record["message"]) == 1
    (alarm,) = record["reward_watch"]["alarms"]
    assert steps(run)[-1] == alarm["since"] - 2 > 0
    # Evaluated by both, with the weights that were saved by one.
    assert same_weights(run, run / f"checkpoint-{steps(run)[-1]}")
    assert record["final_metrics"]["episodes"] == 32 * steps(run)[-1]
