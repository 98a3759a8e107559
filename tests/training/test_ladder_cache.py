"""Training on states of the backbone that are computed once: the command, its cache, and what it refuses."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.tiny_classifiers import make_inputs as classifier_inputs
from helpers.tiny_classifiers import run as classify
from helpers.tiny_runs import make_inputs, run, same_weights, weights, write_recipe
from transformers.models.llama.modeling_llama import LlamaDecoderLayer

from hf_align.adapters.ladder.states import KEY_BYTES
from hf_align.errors import UserError
from hf_align.rl.recipe import PpoConfig
from hf_align.sft.recipe import SftConfig
from hf_align.training import ladder_cache

LADDER: dict[str, Any] = {"adapter": "ladder", "ladder_reduction_factor": 4, "num_samples": 0}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return make_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.fixture
def blocks_run(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by the number of tokens whenever a block of the backbone, 32 wide, runs."""
    runs: list[int] = []
    forward = LlamaDecoderLayer.forward

    def counting(self: Any, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        if hidden_states.shape[-1] == 32:
            filler = kwargs["segments"].filler if "segments" in kwargs else 0
            runs.append(hidden_states.shape[1] - filler)
        return forward(self, hidden_states, *args, **kwargs)

    monkeypatch.setattr(LlamaDecoderLayer, "forward", counting)
    return runs


def cached(inputs: dict[str, Any], folder: Path, name: str = "cached", **options: Any) -> dict[str, Any]:
    more = {
        "ladder_cache": True,
        "ladder_cache_dtype": "as_computed",
        "dataset_cache_dir": str(folder / "kept"),
    }
    return run(inputs, folder / name, **LADDER, **{**more, **options})


def test_the_backbone_runs_once_and_never_again(
    inputs: dict[str, Any], tmp_path: Path, blocks_run: list[int]
) -> None:
    live = run(inputs, tmp_path / "live", **LADDER)
    while_live = len(blocks_run)
    first = cached(inputs, tmp_path)
    # Both blocks, for each micro-batch of all rows, and for the two tokens that are tried. Before that come
    # three probes of whether rows can be packed, one of the order of the layers in a block, and one of
    # whether the model is a decoder.
    probes = 2 * 5
    tokens = sum(blocks_run[while_live + probes :]) / 2
    rows = first["data_report"]["total"]["tokens"]
    assert tokens == rows + 2
    so_far = len(blocks_run)
    again = cached(inputs, tmp_path, "again", num_train_epochs=4)
    assert len(blocks_run) - so_far == probes + 2
    assert first["ladder_states"]["reused"] is False
    assert again["ladder_states"]["reused"] is True
    assert first["ladder_states"]["entry"] == again["ladder_states"]["entry"]
    assert first["ladder_states"]["bytes"] == tokens_kept(first) * 3 * 32 * 4
    assert first["final_metrics"]["eval_loss"] == pytest.approx(live["final_metrics"]["eval_loss"], abs=1e-5)
    for name, value in weights(tmp_path / "live").items():
        torch.testing.assert_close(weights(tmp_path / "cached")[name], value, rtol=1e-3, atol=1e-5)


def tokens_kept(record: dict[str, Any]) -> int:
    return int(record["ladder_states"]["tokens"])


def test_resumed_on_kept_states_as_if_never_stopped(inputs: dict[str, Any], tmp_path: Path) -> None:
    whole = cached(inputs, tmp_path, "whole", save_strategy="steps", save_steps=5, save_total_limit=None)
    checkpoint = tmp_path / "whole" / "checkpoint-5"
    part = cached(inputs, tmp_path, "part", resume_from_checkpoint=str(checkpoint))
    assert part["ladder_states"]["reused"]
    assert whole["ladder_states"]["entry"] == part["ladder_states"]["entry"]
    assert same_weights(tmp_path / "whole", tmp_path / "part")


def test_a_damaged_entry_is_made_again(
    inputs: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = cached(inputs, tmp_path, "first")
    entry = tmp_path / "kept" / f"{first['ladder_states']['entry']}-0of1"
    content = bytearray((entry / "states.bin").read_bytes())
    content[100] ^= 1
    (entry / "states.bin").write_bytes(content)
    with caplog.at_level(logging.WARNING):
        second = cached(inputs, tmp_path, "second")
    assert "is damaged and is made again" in caplog.text
    assert second["ladder_states"]["reused"] is False
    assert same_weights(tmp_path / "first", tmp_path / "second")


@pytest.mark.slow
def test_other_weights_layers_rows_and_formats_have_other_keys(tmp_path: Path) -> None:
    inputs = make_inputs(tmp_path / "inputs", rows=6)
    options: dict[str, Any] = {"num_train_epochs": 1}
    entries = [cached(inputs, tmp_path, "a", **options)["ladder_states"]["entry"]]
    for name, change in (
        ("b", {"ladder_layers": [1]}),
        ("c", {"ladder_cache_dtype": "bfloat16"}),
        ("d", {"ladder_output": "replace"}),
        ("e", {"max_length": 300, "eval_datasets": inputs["datasets"]}),
    ):
        entries.append(cached(inputs, tmp_path, name, **{**options, **change})["ladder_states"]["entry"])
    path = Path(inputs["model_name_or_path"]) / "model.safetensors"
    from safetensors.torch import load_file, save_file

    state = load_file(path)
    state["model.layers.0.mlp.up_proj.weight"][0, 0] += 0.5
    save_file(state, path, metadata={"format": "pt"})
    entries.append(cached(inputs, tmp_path, "f", **options)["ladder_states"]["entry"])
    assert len(set(entries)) == 6
    # What leaves the states alone leaves the key alone.
    same = cached(inputs, tmp_path, "g", **options, learning_rate=0.1, seed=7, ladder_temperature=0.5)
    assert same["ladder_states"]["entry"] == entries[-1]


def test_what_does_not_fit_the_budget_is_refused_before_anything_is_computed(
    inputs: dict[str, Any], tmp_path: Path, blocks_run: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match=r"ladder_cache_budget_gb: the states of [\d,]+ tokens.*ladder_every"):
        cached(inputs, tmp_path, ladder_cache_budget_gb=1e-6)
    assert sum(blocks_run) < 200, "probes alone"
    assert not list((tmp_path / "kept").glob("ladder-*"))
    usage = type("usage", (), {"free": 1000})
    monkeypatch.setattr(ladder_cache.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(UserError, match=r"ladder_cache: .* left; name another folder with dataset_cache_dir"):
        cached(inputs, tmp_path, "other")


@pytest.mark.parametrize(
    "change", [{"streaming": True, "max_steps": 2}, {"neftune_noise_alpha": 5.0}], ids=str
)
def test_states_that_are_not_the_same_every_time_are_refused(change: dict[str, Any]) -> None:
    recipe = {"model_name_or_path": "m", "datasets": "d.jsonl", **LADDER, "ladder_cache": True, **change}
    if "streaming" in change:
        recipe |= {"save_strategy": "no"}
    with pytest.raises(UserError, match="ladder_cache"):
        SftConfig.from_flat(recipe)


def test_ppo_draws_its_rows_and_keeps_no_states() -> None:
    recipe = {"model_name_or_path": "m", "datasets": "d.jsonl", **LADDER, "ladder_cache": True}
    with pytest.raises(UserError, match="ladder_cache"):
        PpoConfig.from_flat({**recipe, "reward_functions": ["r.py:f"]})


def test_run_json_says_what_was_kept(inputs: dict[str, Any], tmp_path: Path) -> None:
    cached(inputs, tmp_path, num_train_epochs=1)
    record = json.loads((tmp_path / "cached" / "run.json").read_text())
    assert set(record["ladder_states"]) == {"entry", "reused", "tokens", "bytes", "seconds"}
    assert record["model"]["adapter"] == "ladder"


def two_processes(recipe: Path, counts: Path) -> list[list[int]]:
    """Tokens of each call of a block of the backbone, on either process."""
    counts.mkdir()
    helper = Path(__file__).resolve().parents[1] / "helpers" / "counted_blocks.py"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = {**os.environ, "NPROC": "2", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, str(helper), str(recipe), str(counts)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads((counts / f"{rank}.json").read_text()) for rank in (0, 1)]


@pytest.mark.slow
def test_two_processes_compute_a_share_each_and_read_all(inputs: dict[str, Any], tmp_path: Path) -> None:
    keys = {"optim": "sgd", "learning_rate": 0.1, "max_tokens_per_batch": 256}
    one = cached(inputs, tmp_path, "alone", dataset_cache_dir=str(tmp_path / "elsewhere"), **keys)
    kept = tmp_path / "kept"
    recipe = {
        **LADDER,
        **keys,
        "ladder_cache": True,
        "ladder_cache_dtype": "as_computed",
        "dataset_cache_dir": str(kept),
        "per_device_train_batch_size": 2,
    }
    counts = two_processes(write_recipe(inputs, tmp_path / "two", **recipe), tmp_path / "counts")
    record = json.loads((tmp_path / "two" / "run.json").read_text())
    entry = record["ladder_states"]["entry"]
    assert entry == one["ladder_states"]["entry"]
    names = [f"{entry}-{rank}of2" for rank in (0, 1)]
    assert sorted(path.name for path in kept.glob("*ladder*") if not path.name.endswith(".lock")) == names
    # Together they hold each sequence once, and each process ran the backbone for its own part alone, besides
    # the probes of the first process and the few tokens that are tried.
    keys_of = [(kept / name / "keys.bin").read_bytes() for name in names]
    found = [{keys[i : i + KEY_BYTES] for i in range(0, len(keys), KEY_BYTES)} for keys in keys_of]
    assert not found[0] & found[1]
    assert sum(map(len, found)) == 22 + 4
    for rank, runs in enumerate(counts):
        held = int(np.fromfile(kept / names[rank] / "lengths.bin", "<i8").sum())
        assert held <= sum(runs) / 2 <= held + 200
    for name, value in weights(tmp_path / "alone").items():
        torch.testing.assert_close(weights(tmp_path / "two")[name], value, rtol=1e-3, atol=1e-5)
    # Nobody computes anything again: neither two processes, nor one of what two have kept.
    written = {path: path.stat().st_mtime_ns for path in kept.glob(f"{entry}*/*")}
    again = two_processes(write_recipe(inputs, tmp_path / "again", **recipe), tmp_path / "counts again")
    assert all(sum(runs) / 2 <= 200 for runs in again)
    assert same_weights(tmp_path / "two", tmp_path / "again")
    alone = run(inputs, tmp_path / "one", **{**recipe, "per_device_train_batch_size": 4})
    assert alone["ladder_states"]["reused"]
    assert {path: path.stat().st_mtime_ns for path in kept.glob(f"{entry}*/*")} == written
    assert same_weights(tmp_path / "alone", tmp_path / "one")


def test_rows_of_a_classifier_are_found_again(tmp_path: Path) -> None:
    inputs = classifier_inputs(tmp_path)
    options = {"num_train_epochs": 2, "adapter": "ladder", "ladder_reduction_factor": 4}
    kept = {"ladder_cache": True, "ladder_cache_dtype": "as_computed"}
    live = classify(inputs, tmp_path / "live", **options)
    cached = classify(
        inputs, tmp_path / "cached", **options, **kept, dataset_cache_dir=str(tmp_path / "kept")
    )
    assert cached["ladder_states"]["tokens"] > 0
    assert cached["final_metrics"]["eval_loss"] == pytest.approx(live["final_metrics"]["eval_loss"], abs=1e-5)
