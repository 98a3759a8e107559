"""The sft command from recipe to report, on a tiny model; resuming bit for bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.tiny_checkpoint import save_tiny_checkpoint, write_orders
from safetensors.torch import load_file
from transformers import AutoTokenizer

from hf_align.commands import sft
from hf_align.errors import UserError
from hf_align.training import stage


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("inputs")
    return {
        "model_name_or_path": save_tiny_checkpoint(folder / "model"),
        "datasets": write_orders(folder / "train.jsonl", 22),
        "eval_datasets": write_orders(folder / "heldout.jsonl", 5, start=100),
    }


def run(inputs: dict[str, str], output_dir: Path, **options: Any) -> dict[str, Any]:
    """Run the command with a recipe made of ``options``."""
    recipe = {
        **inputs,
        "output_dir": str(output_dir),
        "use_cpu": True,
        "max_length": 256,
        "per_device_train_batch_size": 4,
        "num_train_epochs": 2,
        "learning_rate": 0.003,
        "num_samples": 2,
        "sample_max_new_tokens": 4,
        "precision": "fp32",
        **options,
    }
    path = output_dir.parent / f"{output_dir.name}.yaml"
    path.write_text(json.dumps(recipe), encoding="utf-8")
    return sft.main(["--config", str(path)])


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(next(iter(sorted(folder.glob("*.safetensors")))))


def metrics(folder: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    unstable = ("time_seconds", "tokens_per_second", "peak_memory_bytes")
    return [{k: v for k, v in line.items() if k not in unstable} for line in lines]


@pytest.mark.parametrize("adapter", [{}, {"adapter": "lora", "lora_r": 4}], ids=["full", "lora"])
def test_a_run_learns_and_leaves_a_whole_run_folder(inputs, tmp_path: Path, adapter: dict) -> None:
    result = run(
        inputs, tmp_path / "run", eval_strategy="epoch", num_train_epochs=3, learning_rate=0.01, **adapter
    )
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["status"] == "completed"
    assert record["final_metrics"] == result["final_metrics"]
    assert record["final_metrics"]["eval_loss"] < record["final_metrics"]["eval_loss_before"] - 0.2
    assert record["model"]["attention"] == "segments"
    assert record["data_report"]["total"]["read"] == 27
    assert record["tokens_per_second"] > 0
    assert len(record["generations"]) == 2
    assert {"before", "after", "before_stopped", "after_stopped"} <= record["generations"][0].keys()
    assert [line["step"] for line in metrics(tmp_path / "run") if "loss" in line] == list(range(1, 19))
    html = (tmp_path / "run" / "report.html").read_text()
    assert "<svg" in html
    assert (tmp_path / "run" / "README.md").read_text().startswith("---")
    assert not list((tmp_path / "run").glob("*.bin"))
    if adapter:
        assert record["model"]["trainable_parameters"] < record["model"]["parameters"]


def test_the_saved_model_reloads_in_one_call_with_the_trained_outputs(inputs, tmp_path: Path) -> None:
    from peft import AutoPeftModelForCausalLM
    from transformers import AutoModelForCausalLM, AutoTokenizer

    for name, adapter, loader in (
        ("full", "none", AutoModelForCausalLM),
        ("lora", "lora", AutoPeftModelForCausalLM),
    ):
        result = run(inputs, tmp_path / name, adapter=adapter, num_train_epochs=1)
        model = loader.from_pretrained(tmp_path / name).eval()
        tokenizer = AutoTokenizer.from_pretrained(tmp_path / name)
        entry = result["generations"][0]
        ids = tokenizer(entry["prompt"], add_special_tokens=False, return_tensors="pt")
        output = model.generate(**ids, max_new_tokens=4, do_sample=False)[0, ids["input_ids"].shape[1] :]
        assert tokenizer.decode(output, skip_special_tokens=True) == entry["after"]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"adapter": "lora", "lora_r": 4, "lora_dropout": 0.2},
        {"adapter": "lora", "lora_r": 4, "load_in_4bit": True, "optim": "adamw_8bit", "precision": "bf16"},
        {"neftune_noise_alpha": 5.0, "gradient_checkpointing": True},
    ],
    ids=["full", "lora_dropout", "qlora", "neftune_checkpointing"],
)
def test_a_resumed_run_ends_with_the_same_bits(inputs, tmp_path: Path, options: dict) -> None:
    # 6 steps an epoch; checkpoints at 4 and 8 lie inside epochs, 6 and 12 at their ends.
    common = {"save_strategy": "steps", "save_steps": 4, "save_total_limit": None, "eval_strategy": "epoch"}
    whole = tmp_path / "whole"
    run(inputs, whole, **common, **options)
    for step in (4, 8):
        part = tmp_path / f"part{step}"
        part.mkdir()
        (whole / f"checkpoint-{step}").rename(part / f"checkpoint-{step}")
        run(inputs, part, **common, **options, resume_from_checkpoint="auto")
        ours, theirs = weights(part), weights(whole)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
        assert metrics(part) == [line for line in metrics(whole) if line["step"] > step]
        (part / f"checkpoint-{step}").rename(whole / f"checkpoint-{step}")


def test_resuming_another_run_is_refused_unless_forced(inputs, tmp_path: Path) -> None:
    common = {"save_strategy": "steps", "save_steps": 4}
    run(inputs, tmp_path / "run", **common)
    with pytest.raises(UserError, match=r"learning_rate was 0\.003 and is 0\.1"):
        run(inputs, tmp_path / "run", **common, learning_rate=0.1, resume_from_checkpoint="auto")
    other = {**inputs, "datasets": write_orders(tmp_path / "other.jsonl", 22, start=7)}
    with pytest.raises(UserError, match="training rows have changed"):
        run(other, tmp_path / "run", **common, resume_from_checkpoint="auto")
    result = run(
        inputs,
        tmp_path / "run",
        **common,
        learning_rate=0.1,
        resume_from_checkpoint="auto",
        force_resume=True,
    )
    assert result["status"] == "completed"


def test_auto_without_a_checkpoint_starts_anew_and_a_wrong_path_is_an_error(inputs, tmp_path: Path) -> None:
    result = run(inputs, tmp_path / "run", resume_from_checkpoint="auto", num_train_epochs=1)
    assert result["final_metrics"]["steps"] == 6
    with pytest.raises(UserError, match="not a complete checkpoint"):
        run(inputs, tmp_path / "run", resume_from_checkpoint=str(tmp_path / "nowhere"))


def test_a_second_run_moves_the_first_aside_and_foreign_folders_are_refused(inputs, tmp_path: Path) -> None:
    first = run(inputs, tmp_path / "run", num_train_epochs=1, save_strategy="no")
    run(inputs, tmp_path / "run", num_train_epochs=1, save_strategy="no", learning_rate=0.1)
    moved = [folder for folder in tmp_path.glob("run.2*") if folder.is_dir()]
    assert len(moved) == 1
    assert json.loads((moved[0] / "run.json").read_text())["final_metrics"] == first["final_metrics"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    with pytest.raises(UserError, match="not a run folder"):
        run(inputs, tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "precious"


def test_best_checkpoint_is_kept_and_early_stopping_stops(inputs, tmp_path: Path) -> None:
    result = run(
        inputs,
        tmp_path / "run",
        num_train_epochs=10,
        learning_rate=0.2,
        eval_strategy="epoch",
        save_strategy="epoch",
        load_best_model_at_end=True,
        early_stopping_patience=1,
    )
    evaluated = [line for line in metrics(tmp_path / "run") if "eval_loss" in line and line["step"] > 0]
    assert result["final_metrics"]["steps"] < 60
    assert result["final_metrics"]["eval_loss"] == pytest.approx(
        min(line["eval_loss"] for line in evaluated), rel=1e-6
    )


def test_the_best_evaluation_is_kept_also_between_checkpoints(inputs, tmp_path: Path) -> None:
    """At this rate the loss rises from the third step on, and only the fifth is saved by the recipe."""
    result = run(
        inputs,
        tmp_path / "run",
        max_steps=5,
        learning_rate=0.3,
        lr_scheduler_type="constant",
        eval_strategy="steps",
        eval_steps=1,
        save_strategy="steps",
        save_steps=5,
        load_best_model_at_end=True,
    )
    losses: dict[int, float] = {}
    for line in metrics(tmp_path / "run"):
        if "eval_loss" in line and line["step"] > 0:
            # Of the last step there are two; the second is of the weights that the run ends with.
            losses.setdefault(line["step"], line["eval_loss"])
    assert result["final_metrics"]["eval_loss"] == pytest.approx(min(losses.values()), rel=1e-6)
    assert min(losses, key=losses.__getitem__) < 5


def test_a_stream_is_trained_on(inputs, tmp_path: Path) -> None:
    result = run(inputs, tmp_path / "run", streaming=True, max_steps=8, save_strategy="no")
    assert result["final_metrics"]["steps"] == 8
    assert result["final_metrics"]["eval_loss"] < result["final_metrics"]["eval_loss_before"]


def test_a_run_that_fails_is_marked(inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(stage, "train", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run(inputs, tmp_path / "run")
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "interrupted"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model_name_or_path": "models/no-such-model"}, "make model"),
        ({"adapter": "lora", "lora_target_modules": ["q_prj"]}, "q_proj"),
        ({"datasets": "nowhere.jsonl"}, "nowhere.jsonl"),
        ({"precision": "fp16", "use_cpu": True}, "fp16"),
    ],
    ids=str,
)
def test_mistakes_are_user_errors(
    inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict, message: str
) -> None:
    monkeypatch.chdir(tmp_path)  # a fresh checkout, where models/ itself is not there yet
    with pytest.raises(UserError, match=message):
        run(inputs, tmp_path / "run", **options)


def test_an_adapter_s_folder_says_what_ends_an_answer(inputs, tmp_path: Path) -> None:
    run(inputs, tmp_path / "run", adapter="lora", max_steps=1)
    saved = json.loads((tmp_path / "run" / "generation_config.json").read_text())
    tokenizer = AutoTokenizer.from_pretrained(inputs["model_name_or_path"])
    assert tokenizer.convert_tokens_to_ids("<|im_end|>") in saved["eos_token_id"]
