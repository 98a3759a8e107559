"""Fine-tuning encoder-decoder models: text in, text out, with the same command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.tiny_classifiers import CITIES, save_model
from helpers.tiny_runs import weights
from peft import AutoPeftModelForSeq2SeqLM
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from hf_align.commands import sft
from hf_align.data.reading.raw import MalformedRow
from hf_align.data.seq2seq import Seq2SeqEncoder, collate_seq2seq, prompt_and_answer
from hf_align.errors import UserError
from hf_align.types import Example, Message, TokenizedRow


def write_rows(path: Path, rows: int, *, start: int = 0) -> str:
    """The city of an order, as text."""
    with path.open("w", encoding="utf-8") as stream:
        for i in range(start, start + rows):
            city = CITIES[i % 3]
            row = {"prompt": f"city: {'many ' * (i % 4)}lamps to {city}", "completion": city}
            stream.write(json.dumps(row) + "\n")
    return str(path)


def make_inputs(folder: Path, kind: str, rows: int = 24) -> dict[str, Any]:
    return {
        "model_name_or_path": save_model(kind, folder / kind),
        "datasets": write_rows(folder / "train.jsonl", rows),
        "eval_datasets": write_rows(folder / "heldout.jsonl", 6, start=99),
    }


def run(inputs: dict[str, Any], folder: Path, **options: Any) -> dict[str, Any]:
    recipe = {
        **inputs,
        "output_dir": str(folder),
        "use_cpu": True,
        "precision": "fp32",
        "max_length": 128,
        "per_device_train_batch_size": 8,
        "num_train_epochs": 1,
        "learning_rate": 0.01,
        "num_samples": 6,
        "sample_max_new_tokens": 8,
        **options,
    }
    path = folder.parent / f"{folder.name}.yaml"
    path.write_text(json.dumps(recipe), encoding="utf-8")
    return sft.main(["--config", str(path)])


def plain_loss(model: Any, tokenizer: Any, path: str) -> float:
    """transformers' own loss of every answer, over all their tokens."""
    losses, tokens = 0.0, 0
    for line in Path(path).read_text().splitlines():
        row = json.loads(line)
        batch = tokenizer(row["prompt"], text_target=row["completion"], return_tensors="pt")
        batch.pop("token_type_ids", None)
        with torch.no_grad():
            count = batch["labels"].numel()
            losses, tokens = losses + model(**batch).loss.item() * count, tokens + count
    return losses / tokens


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["t5", "bart"])
def test_an_encoder_decoder_learns_to_answer(kind: str, tmp_path: Path) -> None:
    inputs = make_inputs(tmp_path, kind)
    folder = tmp_path / "run"
    result = run(inputs, folder, num_train_epochs=30, lr_scheduler_type="cosine", learning_rate=0.005)
    metrics = result["final_metrics"]
    assert metrics["eval_loss"] < metrics["eval_loss_before"] / 4
    assert result["sample_exact_match"]["after"] > result["sample_exact_match"]["before"]
    assert all(entry["after_stopped"] for entry in result["generations"])
    assert result["generations"][0]["prompt"].startswith("city:")
    assert result["model"]["seq2seq"] and result["model"]["attention"] == "padded"
    model = AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    loss = plain_loss(model, tokenizer, inputs["eval_datasets"])
    assert loss == pytest.approx(metrics["eval_loss"], abs=1e-4)
    # What was sampled is what generate gives for one prompt by itself.
    entry = result["generations"][3]
    ids = tokenizer(entry["prompt"], return_tensors="pt").input_ids
    written = model.generate(input_ids=ids, max_new_tokens=8, do_sample=False)[0]
    assert tokenizer.decode(written, skip_special_tokens=True) == entry["after"]
    card = (folder / "README.md").read_text()
    assert "AutoModelForSeq2SeqLM" in card and "text2text-generation" in card


# Letters that the tokenizer knows: an unknown one could not be written.
THINGS = {"dog": "hund", "fox": "fuchs", "river": "fluss", "party": "fest"}
NUMBERS = {"one": "ein", "two": "zwei", "ten": "zehn"}


def text_to_text(task: str) -> list[tuple[str, str]]:
    """Every (prompt, completion) of a small task, in T5's manner."""
    if task == "classification":
        words = {"good": "positive", "lazy": "negative", "quick": "positive", "long": "negative"}
        return [
            (f"sentiment: the {thing} is {very}{word}", words[word])
            for thing in THINGS
            for very in ("", "not ", "very ")
            for word in words
        ]
    if task == "questions":
        return [
            (f"where is the {thing}? {when} in {city.lower()}", city.lower())
            for thing in THINGS
            for when in ("today", "last week", "now")
            for city in CITIES
        ]
    return [
        (f"translate: {number} {size} {thing}", f"{NUMBERS[number]} {sizes[size]} {THINGS[thing]}")
        for sizes in [{"big": "gross", "quick": "schnell", "good": "gut"}]
        for number in NUMBERS
        for size in sizes
        for thing in THINGS
    ]


@pytest.mark.slow
@pytest.mark.parametrize("task", ["classification", "questions", "translation"])
def test_tasks_of_every_kind_are_text_in_and_text_out(task: str, tmp_path: Path) -> None:
    rows = text_to_text(task)
    parts = {"train": [row for i, row in enumerate(rows) if i % 5], "heldout": rows[::5]}
    for name, chosen in parts.items():
        lines = (json.dumps({"prompt": prompt, "completion": answer}) for prompt, answer in chosen)
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    inputs = {
        "model_name_or_path": save_model("t5", tmp_path / "t5"),
        "datasets": str(tmp_path / "train.jsonl"),
        "eval_datasets": str(tmp_path / "heldout.jsonl"),
    }
    result = run(inputs, tmp_path / "run", num_train_epochs=60, learning_rate=0.01, sample_max_new_tokens=32)
    metrics, match = result["final_metrics"], result["sample_exact_match"]
    # Held-out rows pair known words as no training row does.
    assert metrics["eval_loss"] < metrics["eval_loss_before"] / 4
    assert match["before"] == 0 and match["after"] >= 0.5


def test_lora_reloads_with_peft(tmp_path: Path) -> None:
    inputs = make_inputs(tmp_path, "t5")
    result = run(inputs, tmp_path / "run", adapter="lora", lora_r=4, num_train_epochs=2)
    model = AutoPeftModelForSeq2SeqLM.from_pretrained(tmp_path / "run").eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "run")
    loss = plain_loss(model, tokenizer, inputs["eval_datasets"])
    assert loss == pytest.approx(result["final_metrics"]["eval_loss"], abs=1e-4)
    assert "AutoPeftModelForSeq2SeqLM" in (tmp_path / "run" / "README.md").read_text()
    with pytest.raises(UserError, match="found prompt, which serves decoders here"):
        run(inputs, tmp_path / "prompt", adapter="prompt")


def test_how_a_step_is_cut_changes_nothing(tmp_path: Path) -> None:
    inputs = make_inputs(tmp_path, "t5")
    path = Path(inputs["model_name_or_path"]) / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"dropout_rate": 0.0}))
    for name, budget in (("whole", 8192), ("small", 48)):
        run(inputs, tmp_path / name, num_samples=1, max_tokens_per_batch=budget, learning_rate=0.001)
    expected = weights(tmp_path / "whole")
    for key, value in weights(tmp_path / "small").items():
        torch.testing.assert_close(value, expected[key], rtol=1e-3, atol=2e-5, msg=key)


def test_rows_and_batches_by_hand() -> None:
    rows = [
        TokenizedRow(np.array([5, 6, 1, 7, 1], np.int32), np.array([0, 0, 0, 1, 1], bool)),
        TokenizedRow(np.array([8, 1, 9, 9, 1], np.int32), np.array([0, 0, 1, 1, 1], bool)),
        TokenizedRow(np.zeros(2, np.int32), np.zeros(2, bool)),
    ]
    batch = collate_seq2seq(rows, pad_token_id=3)
    assert batch.inputs["input_ids"].tolist() == [[5, 6, 1], [8, 1, 3], [0, 0, 3]]
    assert batch.inputs["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0], [1, 1, 0]]
    assert batch.inputs["shift_labels"].tolist() == [[7, 1, -100], [9, 9, 1], [-100] * 3]
    assert batch.target_tokens == 5


def test_prompts_and_answers(tmp_path: Path) -> None:
    folder = save_model("bart", tmp_path / "bart")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    turns = (Message("system", "Be brief."), Message("user", "to Oslo"), Message("assistant", "Oslo"))
    examples = [
        Example("a:1", prompt="to Rome", completion="Rome"),
        Example("a:2", text="a document"),
        Example("a:3", messages=turns),
    ]
    first, second, third = Seq2SeqEncoder(tokenizer).encode(examples)
    assert isinstance(second, MalformedRow) and "no prompt" in str(second)
    for row, prompt, answer in ((first, "to Rome", "Rome"), (third, "Be brief.\nto Oslo", "Oslo")):
        assert row.input_ids[~row.target_mask].tolist() == tokenizer(prompt).input_ids
        assert row.input_ids[row.target_mask].tolist() == tokenizer(text_target=answer).input_ids
        assert row.input_ids[-1] == tokenizer.eos_token_id
    assert prompt_and_answer(examples[2]) == ("Be brief.\nto Oslo", "Oslo")
    with pytest.raises(MalformedRow, match="no turn before it"):
        prompt_and_answer(Example("a:4", messages=(Message("assistant", "Oslo"),)))
