"""EVA through the commands: what run.json says, resuming, several processes, and where it is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from helpers import tiny_classifiers, tiny_preferences, tiny_rewards, tiny_runs
from safetensors.torch import load_file

from hf_align.adapters import eva
from hf_align.errors import UserError
from hf_align.training.eva import begin_with_eva

EVA: dict[str, Any] = {
    "adapter": "lora",
    "lora_r": 4,
    "init_lora_weights": "eva",
    "num_train_epochs": 1,
    "eval_strategy": "no",
}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return tiny_runs.make_inputs(tmp_path_factory.mktemp("inputs"))


def ranks_on_disk(folder: Path) -> dict[str, int]:
    weights = load_file(folder / "adapter_model.safetensors")
    return {
        eva.plain(key.removesuffix(".lora_A.weight")): len(value)
        for key, value in weights.items()
        if key.endswith("lora_A.weight")
    }


def test_run_json_has_what_was_found_and_a_resumed_run_goes_on_from_it(
    inputs: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = {**EVA, "save_strategy": "steps", "save_steps": 3, "save_total_limit": None, "num_samples": 0}
    whole = tiny_runs.run(inputs, tmp_path / "whole", **keys)
    found = whole["eva"]
    assert found["positions"] == whole["data_report"]["sources"][0]["target_tokens"]
    assert 0 < found["explained_variance"] <= 1
    shares = [layer["explained_variance"] for layer in found["layers"]]
    assert found["explained_variance"] == pytest.approx(sum(shares) / len(shares), abs=1e-5)
    ranks = {layer["name"]: layer["rank"] for layer in found["layers"]}
    assert sum(ranks.values()) == 14 * 4
    assert ranks_on_disk(tmp_path / "whole") == {name: rank for name, rank in ranks.items() if rank}
    trained = load_file(tmp_path / "whole" / "adapter_model.safetensors")
    assert whole["model"]["trainable_parameters"] == sum(value.numel() for value in trained.values())
    assert "of the variance" in (tmp_path / "whole" / "report.html").read_text()

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("the checkpoint has the directions")

    monkeypatch.setattr(eva, "find_directions", never)
    part = tiny_runs.run(
        inputs, tmp_path / "part", **keys, resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-3")
    )
    assert tiny_runs.same_weights(tmp_path / "part", tmp_path / "whole")
    assert {layer["name"]: layer["rank"] for layer in part["eva"]["layers"]} == ranks


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["dpo", "reward", "padded", "all tokens"])
def test_it_begins_as_the_base_in_other_stages(stage: str, tmp_path: Path) -> None:
    helper = {"dpo": tiny_preferences, "reward": tiny_rewards}.get(stage, tiny_runs)
    keys = {"padded": {"packing": False}, "all tokens": {"eva_use_label_mask": False}}.get(stage, {})
    made = helper.make_inputs(tmp_path)
    plain = {"adapter": "lora", "lora_r": 4, "num_train_epochs": 1, "eval_strategy": "no"}
    record = helper.run(made, tmp_path / "eva", **EVA, **keys)
    other = helper.run(made, tmp_path / "plain", **plain, **{k: v for k, v in keys.items() if "eva" not in k})
    begins = [run["final_metrics"]["eval_loss_before"] for run in (record, other)]
    assert begins[0] == pytest.approx(begins[1], abs=1e-5)
    assert record["eva"]["layers"]
    if stage == "all tokens":
        assert record["eva"]["positions"] == record["data_report"]["sources"][0]["tokens"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_classifiers(kind: str, tmp_path: Path) -> None:
    made = tiny_classifiers.make_inputs(tmp_path, kind)
    record = tiny_classifiers.run(made, tmp_path / "run", **{**EVA, "lora_r": 2, "num_train_epochs": 1})
    assert record["status"] == "completed"
    assert sum(layer["rank"] for layer in record["eva"]["layers"]) == 2 * len(record["eva"]["layers"])


@pytest.mark.slow
def test_two_processes_begin_alike(inputs: dict[str, Any], tmp_path: Path) -> None:
    keys = {**EVA, "max_steps": 2, "num_samples": 0, "optim": "sgd"}
    tiny_runs.run(inputs, tmp_path / "one", **keys)
    recipe = tiny_runs.write_recipe(inputs, tmp_path / "two", **keys, per_device_train_batch_size=2)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = {**os.environ, "NPROC": "2", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, "-m", "hf_align", "sft", "--config", str(recipe)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    one, two = (json.loads((tmp_path / name / "run.json").read_text())["eva"] for name in ("one", "two"))
    assert one["layers"] == two["layers"]
    ours, theirs = tiny_runs.weights(tmp_path / "two"), tiny_runs.weights(tmp_path / "one")
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-3, atol=1e-5)


def test_too_few_rows_are_refused(tmp_path: Path) -> None:
    made = tiny_runs.make_inputs(tmp_path, rows=1)
    with pytest.raises(UserError, match=r"eva needs 32 positions for this rank, and the training rows have"):
        tiny_runs.run(made, tmp_path / "run", **{**EVA, "lora_r": 8})


@pytest.mark.parametrize(
    ("trainer", "message"),
    [
        ({"is_fsdp_enabled": True}, "before it is sharded"),
        ({"is_deepspeed_enabled": True}, "before it is sharded"),
        ({}, "models of one stack"),
    ],
    ids=str,
)
def test_what_it_cannot_look_at_is_refused(trainer: dict[str, bool], message: str) -> None:
    model = SimpleNamespace(config=SimpleNamespace(is_encoder_decoder=True))
    sharded = {"is_fsdp_enabled": False, "is_deepspeed_enabled": False}
    given: Any = SimpleNamespace(model=model, **(sharded | trainer))
    with pytest.raises(UserError, match=f"init_lora_weights: eva .*{message}"):
        begin_with_eva(SimpleNamespace(), given)  # type: ignore[arg-type]
