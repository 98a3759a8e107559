"""The kto command from recipe to report, on a tiny model: losses, references, adapters, resuming."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.tiny_preferences import LORA, SHORT
from helpers.tiny_runs import merged_metrics, same_weights, weights, write_recipe
from helpers.tiny_unpaired import make_inputs, run, write_labelled

QLORA = {**LORA, "load_in_4bit": True, "optim": "adamw_8bit", "precision": "bf16"}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return make_inputs(tmp_path_factory.mktemp("inputs"), hidden_size=64)


@pytest.mark.parametrize("options", [{}, LORA, QLORA], ids=["full", "lora", "qlora_nf4"])
def test_a_run_learns_and_leaves_a_whole_run_folder(
    inputs: dict[str, Any], tmp_path: Path, options: dict[str, Any], capsys: Any
) -> None:
    folder = tmp_path / "run"
    run(inputs, folder, eval_strategy="epoch", num_samples=2, beta=0.5, **options)
    record = json.loads((folder / "run.json").read_text())
    assert record["status"] == "completed" and record["command"] == "kto"
    final, summary = record["final_metrics"], record["kto_summary"]
    assert final["eval_loss"] < final["eval_loss_before"] - 0.1
    assert final["eval_rewards/margins"] > 0.3 and summary["after"]["auc"] > 0.9
    check = record["start_check"]
    assert check["checked"] and check["expected"] == 0.5
    assert set(check["found"]) == {"held-out rows", "first step"}
    kind = "adapter switched off" if options else "run beforehand"
    assert record["reference"]["kind"] == kind
    assert record["labels"]["desirable"] == 14 and record["labels"]["undesirable"] == 8
    assert record["labels"]["ratio"] == pytest.approx(1.75)
    words = (
        r"14 desirable and 8 undesirable .* desirable_weight 0\.571 to 0\.762, or undesirable_weight 1\.31"
    )
    assert re.search(words, capsys.readouterr().out)
    first, *_ = merged_metrics(folder)
    names = "rewards/chosen rewards/rejected rewards/margins logps/chosen logps/rejected kl unweighted_loss"
    assert set(names.split()) <= first.keys() and first["rows"] == 4
    assert record["generations"][0]["reference"].endswith("."), "a desirable answer"
    page = (folder / "report.html").read_text()
    card = (folder / "README.md").read_text().replace("\\", "")
    for text in (page, card):
        assert "14 desirable, 8 undesirable" in text and "desirable_weight 0.571 to 0.762" in text
    assert 'id="kto"' in page and "Aligned with single labelled answers" in card


def test_the_other_loss_needs_no_estimate(inputs: dict[str, Any], tmp_path: Path) -> None:
    record = run(inputs, tmp_path / "run", loss_type="apo_zero_unpaired", beta=0.5, **SHORT, **LORA)
    assert record["start_check"]["checked"]
    assert record["final_metrics"]["eval_loss"] < record["final_metrics"]["eval_loss_before"]
    assert "eval_kl" not in record["final_metrics"]


@pytest.mark.parametrize(
    "options",
    [
        {"adapter": "bottleneck"},
        {"adapter": "ln_tuning"},
        {"adapter": "ia3"},
        {"adapter": "lokr"},
        {"adapter": "ladder"},
        {"adapter": "lora", "init_lora_weights": "pissa", "precompute_ref_log_probs": True},
    ],
    ids=lambda options: options["adapter"] + options.get("init_lora_weights", ""),
)
def test_adapters_are_their_own_reference(
    inputs: dict[str, Any], tmp_path: Path, options: dict[str, Any]
) -> None:
    record = run(inputs, tmp_path / "run", **SHORT, **{"learning_rate": 0.02, "beta": 0.5, **options})
    assert record["start_check"]["checked"]
    assert record["final_metrics"]["eval_loss"] < record["final_metrics"]["eval_loss_before"]


def test_references_computed_beforehand_and_in_the_step_train_alike(
    inputs: dict[str, Any], tmp_path: Path
) -> None:
    options = {**LORA, **SHORT, "num_train_epochs": 2, "beta": 0.5, "precision": "fp32"}
    run(inputs, tmp_path / "off", **options)
    record = run(inputs, tmp_path / "before", precompute_ref_log_probs=True, **options)
    # Every answer, and the mismatched ones of two epochs and of the held-out rows.
    assert record["reference"]["kind"] == "run beforehand" and record["reference"]["rows"] > 22 + 9
    for line, other in zip(*map(merged_metrics, (tmp_path / "off", tmp_path / "before")), strict=True):
        assert line.get("loss") == pytest.approx(other.get("loss"), abs=1e-5)
        assert line.get("kl", 0) == pytest.approx(other.get("kl", 0), abs=1e-4)


def test_another_model_as_reference(inputs: dict[str, Any], tmp_path: Path) -> None:
    other = make_inputs(tmp_path, rows=1, hidden_size=48)["model_name_or_path"]
    record = run(inputs, tmp_path / "run", ref_model_name_or_path=other, **SHORT, **LORA)
    assert record["reference"]["model"] == other
    assert "the reference is another model" in record["start_check"]["why"]


def test_one_row_a_step_is_warned_about(inputs: dict[str, Any], tmp_path: Path, caplog: Any) -> None:
    record = run(inputs, tmp_path / "run", per_device_train_batch_size=1, max_steps=3, **SHORT, **LORA)
    assert "one row makes an optimizer step" in caplog.text and "KL estimate is 0" in caplog.text
    assert all(line.get("kl", 0) == 0 for line in merged_metrics(tmp_path / "run") if "loss" in line)
    assert record["status"] == "completed"


def test_one_label_alone_trains_and_says_so(inputs: dict[str, Any], tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "liked.jsonl"
    every = Path(write_labelled(tmp_path / "every.jsonl", 12)).read_text().splitlines()
    path.write_text("\n".join(line for line in every if json.loads(line)["label"]) + "\n")
    record = run({**inputs, "datasets": str(path)}, tmp_path / "run", **SHORT, **LORA)
    assert "only one label counts" in capsys.readouterr().out
    assert "ratio" not in record["labels"]
    assert all("rewards/rejected" not in line for line in merged_metrics(tmp_path / "run") if "loss" in line)


@pytest.mark.parametrize("options", [{}, LORA], ids=["full", "lora"])
def test_resuming_gives_the_same_bits(
    inputs: dict[str, Any], tmp_path: Path, options: dict[str, Any]
) -> None:
    common = {"num_train_epochs": 2, "save_strategy": "steps", "save_steps": 4, "num_samples": 0, **options}
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    run(inputs, whole, **common, save_total_limit=None)
    shutil.copytree(whole, cut)
    for checkpoint in cut.glob("checkpoint-*"):
        # In the middle of the first epoch.
        if checkpoint.name != "checkpoint-4":
            shutil.rmtree(checkpoint)
    run(inputs, cut, **common, save_total_limit=None, resume_from_checkpoint="auto")
    assert same_weights(whole, cut)
    ours, theirs = (
        [(line["loss"], line["kl"]) for line in merged_metrics(folder) if "loss" in line]
        for folder in (whole, cut)
    )
    assert ours == theirs


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {**LORA, "learning_rate": 0.5}], ids=["full", "lora"])
def test_two_processes_equal_one(tmp_path: Path, options: dict[str, Any]) -> None:
    # 21 rows in steps of 4: the last step has one row, so one of two processes has none.
    given = make_inputs(tmp_path, rows=21)
    common = {
        "save_strategy": "no",
        "max_tokens_per_batch": 150,
        "learning_rate": 0.1,
        "optim": "sgd",
        "num_train_epochs": 2,
        "num_samples": 0,
        "beta": 0.5,
        **options,
    }
    one, two = tmp_path / "one", tmp_path / "two"
    run(given, one, **common)
    recipe = write_recipe(given, two, **common, per_device_train_batch_size=2)
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "hf_align", "kto"]
    done = subprocess.run(
        [sys.executable, *launch, "--config", str(recipe)],
        env={**os.environ, "NPROC": "2", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("labels: ") == 1
    for name, value in weights(one).items():
        torch.testing.assert_close(weights(two)[name], value, rtol=1e-4, atol=1e-6)
    for line, same in zip(merged_metrics(one), merged_metrics(two), strict=True):
        assert same == pytest.approx(line, rel=1e-4, abs=1e-5)
    assert any(line.get("kl", 0) > 0 for line in merged_metrics(one))
