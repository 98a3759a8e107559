"""The classify command from recipe to report, on tiny models; what is saved predicts the same."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.tiny_classifiers import CITIES, make_inputs, run, save_model, write_labelled
from helpers.tiny_runs import merged_metrics, same_weights, weights
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from hf_align.classify.model import load_classifier
from hf_align.errors import UserError

LORA = {"adapter": "lora", "lora_r": 4, "lora_alpha": 8}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return make_inputs(tmp_path_factory.mktemp("llama"))


def rows_of(path: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def plain_predictions(model: Any, tokenizer: Any, rows: list[dict[str, Any]]) -> tuple[list[str], float]:
    """What a user of transformers gets, in one padded batch: the labels, and the mean loss."""
    texts = [[row["text"] for row in rows]] if "text" in rows[0] else []
    texts = texts or [[row["sentence1"] for row in rows], [row["sentence2"] for row in rows]]
    batch = tokenizer(*texts, padding=True, return_tensors="pt")
    names = (
        "input_ids",
        "attention_mask",
        *(["token_type_ids"] if model.config.model_type == "bert" else []),
    )
    with torch.no_grad():
        logits = model(**{name: batch[name] for name in names}).logits.float()
    labels = torch.tensor([model.config.label2id[str(row["label"])] for row in rows])
    loss = -logits.log_softmax(-1)[torch.arange(len(rows)), labels].mean().item()
    return [model.config.id2label[i] for i in logits.argmax(-1).tolist()], loss


@pytest.mark.parametrize("kind", ["llama", "bert", "t5", pytest.param("bart", marks=pytest.mark.slow)])
def test_every_kind_of_model_learns_and_reloads(kind: str, tmp_path: Path) -> None:
    inputs = make_inputs(tmp_path, kind, rows=36)
    folder = tmp_path / "run"
    options = {
        "num_train_epochs": 15,
        "learning_rate": 0.003 if kind == "bert" else 0.005,
        "lr_scheduler_type": "cosine",
        "warmup_steps": 0.1,
    }
    result = run(inputs, folder, **options)
    record = json.loads((folder / "run.json").read_text())
    assert record["status"] == "completed" and record["command"] == "classify"
    assert record["labels"] == sorted(CITIES) and record["train_labels"] == [12, 12, 12]
    assert record["model"]["attention"] == ("segments" if kind == "llama" else "padded")
    metrics = result["final_metrics"]
    # A third is chance. Which pieces a WordPiece tokenizer finds differs from one process to another.
    assert metrics["eval_accuracy"] > 0.6 and metrics["eval_matthews"] > 0.4
    assert metrics["eval_loss"] < metrics["eval_loss_before"] - 0.3
    after = record["classification"]["after"]
    assert [sum(row) for row in after["confusion"]] == [3, 3, 3]
    assert after["accuracy"] == metrics["eval_accuracy"] and after["f1_macro"] == metrics["eval_f1_macro"]
    assert len(record["classification"]["before"]["mistakes"]) > 0

    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    rows = rows_of(inputs["eval_datasets"])
    found, loss = plain_predictions(model, tokenizer, rows)
    right = [label == row["label"] for label, row in zip(found, rows, strict=True)]
    assert np.mean(right) == pytest.approx(metrics["eval_accuracy"])
    assert loss == pytest.approx(metrics["eval_loss"], abs=1e-5)


@pytest.mark.parametrize("kind", ["llama", "bert"])
def test_lora_is_merged_and_saved_beside(kind: str, tmp_path: Path) -> None:
    inputs = make_inputs(tmp_path, kind)
    folder = tmp_path / "run"
    result = run(inputs, folder, **LORA)
    rows = rows_of(inputs["eval_datasets"])
    loaded = [
        (AutoModelForSequenceClassification.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)),
        load_classifier(folder, dtype="float32", use_cpu=True),
        load_classifier(folder / "adapter", dtype="float32", use_cpu=True),
    ]
    losses = [plain_predictions(model.eval(), tokenizer, rows)[1] for model, tokenizer in loaded]
    np.testing.assert_allclose(losses, result["final_metrics"]["eval_loss"], atol=1e-4)
    assert result["merge"]["largest_logit_difference"] < 1e-3
    assert result["model"]["trainable_parameters"] < result["model"]["parameters"] / 3
    assert not (folder / "adapter_config.json").exists()


@pytest.mark.parametrize("adapter", ["bottleneck", "prompt"])
def test_adapters_that_stay_adapters_reload_on_their_base(inputs, tmp_path: Path, adapter: str) -> None:
    folder = tmp_path / "run"
    result = run(inputs, folder, adapter=adapter)
    model, tokenizer = load_classifier(folder, dtype="float32", use_cpu=True)
    # One by one: behind virtual tokens, transformers takes the last column of a padded batch for the end.
    losses = [plain_predictions(model, tokenizer, [row])[1] for row in rows_of(inputs["eval_datasets"])]
    assert np.mean(losses) == pytest.approx(result["final_metrics"]["eval_loss"], abs=1e-4)
    assert "load_classifier" in (folder / "README.md").read_text()


def test_a_frozen_base_does_not_move_and_its_head_does(tmp_path: Path) -> None:
    inputs = make_inputs(tmp_path, "bert")
    result = run(inputs, tmp_path / "run", freeze_base=True)
    before = load_file(Path(inputs["model_name_or_path"]) / "model.safetensors")
    after = weights(tmp_path / "run")
    shared = before.keys() & after.keys()
    assert len(shared) > 20 and all(torch.equal(before[name], after[name]) for name in shared)
    trained = {part["name"].split(".")[-2] for part in result["model"]["trained"]}
    assert trained == {"dense", "classifier"}, "the pooler, which an MLM checkpoint lacks, and the head"
    # With its dropout off, a frozen model gives the same features in training and in evaluation.
    again = run(inputs, tmp_path / "one", freeze_base=True, max_steps=1, learning_rate=1e-9)
    other = run(inputs, tmp_path / "two", freeze_base=True, max_steps=1, learning_rate=1e-9)
    assert again["final_metrics"]["train_loss"] == other["final_metrics"]["train_loss"]


def test_what_training_starts_from(inputs, tmp_path: Path) -> None:
    results = {
        start: run(inputs, tmp_path / start, init_from=start, max_steps=1, learning_rate=1e-12)
        for start in ("weights", "embeddings", "random")
    }
    base = load_file(Path(inputs["model_name_or_path"]) / "model.safetensors")
    found = {start: weights(tmp_path / start) for start in results}
    embedding, layer = "model.embed_tokens.weight", "model.layers.0.mlp.up_proj.weight"
    for start, same in (("weights", (True, True)), ("embeddings", (True, False)), ("random", (False, False))):
        close = tuple(
            torch.allclose(found[start][name], base[name], atol=1e-6) for name in (embedding, layer)
        )
        assert close == same, start
        assert results[start]["model"]["init_from"] == start
    assert {name: value.shape for name, value in found["random"].items()} == {
        name: value.shape for name, value in found["weights"].items()
    }
    assert "random weights" in (tmp_path / "random" / "README.md").read_text()


def test_pairs_with_segment_ids_and_with_a_separator(tmp_path: Path) -> None:
    data = {
        "datasets": write_labelled(tmp_path / "pairs.jsonl", 22, pairs=True),
        "eval_datasets": write_labelled(tmp_path / "pairs_heldout.jsonl", 8, pairs=True, start=50),
    }
    bert = {"model_name_or_path": save_model("bert", tmp_path / "bert"), **data}
    result = run(bert, tmp_path / "encoder")
    assert result["labels"] == ["0", "1"] and "eval_f1" in result["final_metrics"]
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "encoder").eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "encoder")
    _, loss = plain_predictions(model, tokenizer, rows_of(data["eval_datasets"]))
    assert loss == pytest.approx(result["final_metrics"]["eval_loss"], abs=1e-5)
    llama = {"model_name_or_path": save_model("llama", tmp_path / "llama"), **data}
    result = run(llama, tmp_path / "decoder", pair_separator=" | ")
    joined = [
        {"text": f"{row['sentence1']} | {row['sentence2']}", "label": row["label"]}
        for row in rows_of(data["eval_datasets"])
    ]
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "decoder").eval()
    _, loss = plain_predictions(model, AutoTokenizer.from_pretrained(tmp_path / "decoder"), joined)
    assert loss == pytest.approx(result["final_metrics"]["eval_loss"], abs=1e-5)


def test_how_a_step_is_cut_changes_nothing(inputs, tmp_path: Path) -> None:
    options = {"max_steps": 4, "logging_steps": 1}
    for name, more in (
        ("packed", {}),
        ("small", {"max_tokens_per_batch": 32}),
        ("padded", {"packing": False}),
        ("accumulated", {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 4}),
    ):
        run(inputs, tmp_path / name, **options, **more)
    expected = weights(tmp_path / "packed")
    for name in ("small", "padded", "accumulated"):
        for key, value in weights(tmp_path / name).items():
            torch.testing.assert_close(value, expected[key], rtol=1e-3, atol=2e-5, msg=f"{name} {key}")


def test_resumed_is_uninterrupted(inputs, tmp_path: Path) -> None:
    options = {
        "save_strategy": "steps",
        "save_steps": 4,
        "eval_strategy": "epoch",
        "lora_dropout": 0.1,
        **LORA,
    }
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    run(inputs, whole, **options)
    resumed.mkdir()
    shutil.copytree(whole / "checkpoint-8", resumed / "checkpoint-8")
    for name in ("run.json", "metrics.jsonl"):
        shutil.copy(whole / name, resumed / name)
    run(inputs, resumed, **options, resume_from_checkpoint="auto")
    assert same_weights(whole, resumed)
    assert merged_metrics(whole) == merged_metrics(resumed)


def test_a_classifier_goes_on_with_its_labels(inputs, tmp_path: Path) -> None:
    run(inputs, tmp_path / "first", labels=["Rome", "Oslo", "Lima"], max_steps=1)
    further = {**inputs, "model_name_or_path": str(tmp_path / "first")}
    result = run(further, tmp_path / "second", max_steps=1)
    assert result["labels"] == ["Rome", "Oslo", "Lima"], "those of its head, not sorted"
    before, after = weights(tmp_path / "first"), weights(tmp_path / "second")
    assert (before["score.weight"] - after["score.weight"]).abs().max() < 0.02
    with pytest.raises(UserError, match=r"labels: found a, b; .* is a classifier of Rome, Oslo, Lima"):
        run(further, tmp_path / "third", labels=["a", "b"])


def test_a_label_that_training_does_not_have(inputs, tmp_path: Path) -> None:
    path = tmp_path / "other.jsonl"
    path.write_text('{"text": "to Oslo", "label": "Oslo"}\n{"text": "to Rmoe", "label": "Rmoe"}\n')
    expected = r"other.jsonl:2: found the label 'Rmoe'; the training rows have Lima, Oslo, Rome.*'Rome'"
    with pytest.raises(UserError, match=expected):
        run({**inputs, "eval_datasets": str(path)}, tmp_path / "run")
    with pytest.raises(UserError, match=r"train.jsonl:3: found the label 'Lima'; the recipe's labels are"):
        run(inputs, tmp_path / "run", labels=["Oslo", "Rome"])


def test_an_encoder_decoder_wants_an_end_in_every_row(tmp_path: Path) -> None:
    inputs = make_inputs(tmp_path, "t5")
    path = tmp_path / "ends.jsonl"
    path.write_text('{"text": "to </s> Oslo", "label": "Oslo"}\n' * 3)
    with pytest.raises(UserError, match=r"ends.jsonl:1: 2 end-of-sequence tokens"):
        run({**inputs, "eval_datasets": str(path)}, tmp_path / "run")


def test_qlora_trains_and_reloads(inputs, tmp_path: Path) -> None:
    result = run(inputs, tmp_path / "run", **LORA, load_in_4bit=True, learning_rate=0.02, num_train_epochs=4)
    assert result["final_metrics"]["eval_loss"] < result["final_metrics"]["eval_loss_before"]
    model, tokenizer = load_classifier(tmp_path / "run", use_cpu=True)
    assert model.is_loaded_in_4bit
    _, loss = plain_predictions(model, tokenizer, rows_of(inputs["eval_datasets"]))
    assert loss == pytest.approx(result["final_metrics"]["eval_loss"], abs=1e-3)
