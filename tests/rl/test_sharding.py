"""A policy that Accelerate shards (FSDP2) learns what one process learns, and goes on to the same bits."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate import DistributedType
from helpers import tiny_grpo
from helpers.tiny_ppo import make_inputs, run, write_recipe
from helpers.tiny_runs import merged_metrics, same_weights, steps, weights
from safetensors.torch import load_file

from hf_align.errors import UserError
from hf_align.rl.recipe import PpoConfig
from hf_align.rl.sharding import check_sharding
from hf_align.rl.value_head import VALUE_FILE

ROOT = Path(__file__).resolve().parents[2]
KINDS: dict[str, dict[str, Any]] = {
    "full": {},
    "lora": {"adapter": "lora", "lora_r": 4, "gradient_checkpointing": True},
    "separate values": {"value_model": "separate", "value_head_init": "normal"},
}


def on_two_processes(recipe: Path, command: str = "ppo") -> None:
    script = str(ROOT / "tests" / "helpers" / "fsdp2_on_cpus.py")
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", script]
    done = subprocess.run(
        [sys.executable, *launcher, command, "--config", str(recipe)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "NPROC": "2"},
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_shards_learn_what_one_process_learns_and_resume_to_the_same_bits(tmp_path: Path, kind: str) -> None:
    inputs = make_inputs(tmp_path)
    # Five prompts for two processes, in two mini-batches; plain gradient steps do not blow up rounding.
    options = {**KINDS[kind], "rollout_batch_size": 5, "max_tokens_per_batch": 100, "optim": "sgd"}
    options |= {"learning_rate": 0.1, "save_steps": 2, "save_total_limit": None}
    one, two, part = (tmp_path / name for name in ("one", "two", "part"))
    run(inputs, one, **options)
    on_two_processes(write_recipe(inputs, two, **options))
    ours, theirs = weights(two), weights(one)
    assert ours.keys() == theirs.keys()
    for name in theirs:
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-4, atol=1e-6, msg=name)
    ours, theirs = load_file(two / VALUE_FILE), load_file(one / VALUE_FILE)
    for name in theirs:
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-4, atol=1e-6, msg=name)
    for line, same in zip(merged_metrics(one), merged_metrics(two), strict=True):
        seconds = {name for name in line if name.endswith("_seconds")}
        kept = {name: value for name, value in line.items() if name not in seconds}
        assert {name: same[name] for name in kept} == pytest.approx(kept, rel=1e-3, abs=1e-4)

    shutil.copytree(two, part)
    shutil.rmtree(part / "checkpoint-4")
    on_two_processes(write_recipe(inputs, part, **options, resume_from_checkpoint="auto"))
    assert steps(part) == [2, 4] and same_weights(part, two)
    assert (part / VALUE_FILE).read_bytes() == (two / VALUE_FILE).read_bytes()


@pytest.mark.slow
def test_answers_without_values_are_learned_from_by_shards_as_by_one_process(tmp_path: Path) -> None:
    inputs = make_inputs(tmp_path)
    options = {"rollout_batch_size": 5, "max_tokens_per_batch": 100, "optim": "sgd", "beta": 0.1}
    options |= {"learning_rate": 0.1, "num_mini_batches": 2, "loss_type": "grpo", "num_rollouts": 2}
    one, two = tmp_path / "one", tmp_path / "two"
    tiny_grpo.run(inputs, one, **options)
    on_two_processes(tiny_grpo.write_recipe(inputs, two, **options), "grpo")
    ours, theirs = weights(two), weights(one)
    assert ours.keys() == theirs.keys()
    for name in theirs:
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.slow
def test_adam_goes_on_with_its_moments_sharded_or_not(tmp_path: Path) -> None:
    inputs = make_inputs(tmp_path)
    options = {"save_steps": 2, "save_total_limit": None}
    two, part, alone = (tmp_path / name for name in ("two", "part", "alone"))
    on_two_processes(write_recipe(inputs, two, **options))
    for folder in (part, alone):
        shutil.copytree(two, folder)
        shutil.rmtree(folder / "checkpoint-4")
    on_two_processes(write_recipe(inputs, part, **options, resume_from_checkpoint="auto"))
    assert same_weights(part, two)
    run(inputs, alone, **options, resume_from_checkpoint="auto", force_resume=True)
    found, expected = (
        torch.load(folder / "checkpoint-4" / "optimizer.pt", weights_only=True) for folder in (alone, two)
    )
    assert [group["params"] for group in found["param_groups"]] == [
        group["params"] for group in expected["param_groups"]
    ]
    for place, moments in expected["state"].items():
        assert moments["exp_avg"].any()
        for name, values in moments.items():
            torch.testing.assert_close(found["state"][place][name], values, rtol=1e-2, atol=1e-5)


@pytest.mark.slow
def test_in_bf16_the_shards_compute_as_the_whole_model_does(tmp_path: Path) -> None:
    inputs = make_inputs(tmp_path)
    on_two_processes(write_recipe(inputs, tmp_path / "two", precision="bf16", num_rollouts=2))
    for line in merged_metrics(tmp_path / "two"):
        assert line.get("ratio_deviation_at_start", 0.0) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("kind", "fsdp2", "environment", "recipe", "said"),
    [
        (DistributedType.DEEPSPEED, False, {}, {}, "cannot be had from DeepSpeed or FSDP1"),
        (DistributedType.FSDP, False, {}, {}, "fsdp_version: 2"),
        (DistributedType.FSDP, True, {"FSDP_CPU_RAM_EFFICIENT_LOADING": "true"}, {}, "^fsdp_cpu_ram_eff"),
        (DistributedType.FSDP, True, {}, {"load_in_4bit": True, "adapter": "lora"}, "^load_in_4bit: "),
        (DistributedType.FSDP, True, {}, {}, None),
        (DistributedType.MULTI_GPU, False, {}, {}, None),
    ],
)
def test_what_rollouts_cannot_follow_is_refused(
    monkeypatch: pytest.MonkeyPatch,
    kind: DistributedType,
    fsdp2: bool,
    environment: dict[str, str],
    recipe: dict[str, Any],
    said: str | None,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    accelerator: Any = SimpleNamespace(distributed_type=kind, is_fsdp2=fsdp2)
    flat = {"model_name_or_path": "m", "datasets": "a", "reward_model": "r", **recipe}
    config = PpoConfig.from_flat(flat)
    if said is None:
        check_sharding(accelerator, config)
        return
    with pytest.raises(UserError, match=said):
        check_sharding(accelerator, config)
