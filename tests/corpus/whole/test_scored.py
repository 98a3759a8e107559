"""Documents by the score of a model: the share that stays, the better kind first, and what is refused."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.tiny_checkpoint import save_tiny_checkpoint
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from hf_align.corpus.document import Document, Verdict
from hf_align.corpus.steps import read_steps
from hf_align.errors import UserError

GOOD = "theorem proof lemma integer prime number set function".split()
ORDINARY = "buy now cheap offer click here win prize".split()


def texts(words: list[str], count: int, seed: int) -> list[str]:
    rng = random.Random(seed)
    return [" ".join(rng.choices(words, k=12)) for _ in range(count)]


def scored(entry: dict[str, Any], documents: list[str], folder: Path) -> tuple[list[Verdict], dict[str, Any]]:
    (named,) = read_steps([entry])
    step = named.whole
    assert step is not None
    found = step.prepare(folder)
    half = len(documents) // 2
    shards = [
        [Document(f"f:{n}", text) for n, text in enumerate(part)]
        for part in (documents[:half], documents[half:])
    ]
    decision = step.decide([step.scan(shard, folder) for shard in shards], lambda number: shards[number])
    verdicts = [v for shard, own in zip(shards, decision.shards, strict=True) for v in step.apply(shard, own)]
    return verdicts, {**found, **decision.found}


def write(path: Path, rows: list[str]) -> str:
    path.write_text("".join(json.dumps({"text": row}) + "\n" for row in rows))
    return str(path)


def test_a_classifier_keeps_the_share_that_is_like_the_good_kind(tmp_path: Path) -> None:
    good = write(tmp_path / "good.jsonl", texts(GOOD, 60, 0))
    ordinary = write(tmp_path / "ordinary.jsonl", texts(ORDINARY, 60, 1))
    entry = {"classifier": {"good": [good], "ordinary": [ordinary], "keep_share": 0.3}}
    documents = [*texts(GOOD, 3, 2), *texts(ORDINARY, 7, 3)]
    verdicts, found = scored(entry, documents, tmp_path)
    assert [verdict.keep for verdict in verdicts] == [True] * 3 + [False] * 7
    assert (found["documents"], found["good"], found["held_out"]) == (120, 60, 24)
    assert found["precision"] == found["recall"] == 1.0
    kept = min(float(verdict.columns["quality_score"]) for verdict in verdicts[:3])
    assert found["threshold"] == pytest.approx(kept, abs=1e-6)
    assert {verdict.reason for verdict in verdicts[3:]} == {"quality_score"}


def test_too_few_labels_are_refused(tmp_path: Path) -> None:
    good, ordinary = (write(tmp_path / f"{n}.jsonl", texts(GOOD, 1, n)) for n in range(2))
    entry = {"classifier": {"good": [good], "ordinary": [ordinary], "keep_share": 0.5}}
    with pytest.raises(UserError, match="give at least 20 of each"):
        scored(entry, texts(GOOD, 4, 0), tmp_path)


def test_the_likeliest_texts_stay(tmp_path: Path) -> None:
    folder = save_tiny_checkpoint(tmp_path / "model", initializer_range=0.3)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    documents = texts(GOOD, 3, 5) + texts(ORDINARY, 3, 6)
    losses = []
    with torch.no_grad():
        for text in documents:
            ids = tokenizer(text, return_tensors="pt")["input_ids"]
            losses.append(float(model(input_ids=ids, labels=ids).loss))
    verdicts, _ = scored({"perplexity": {"model": folder, "keep_share": 0.5}}, documents, tmp_path)
    # The mean loss of transformers itself.
    assert [float(v.columns["quality_score"]) for v in verdicts] == pytest.approx(
        [-x for x in losses], abs=1e-4
    )
    assert [v.keep for v in verdicts] == [loss <= sorted(losses)[2] for loss in losses]


def test_an_encoder_scores_by_the_probability_of_a_label(tmp_path: Path) -> None:
    folder = save_tiny_checkpoint(tmp_path / "base")
    torch.manual_seed(0)
    labels = {"num_labels": 2, "id2label": {0: "bad", 1: "good"}, "label2id": {"bad": 0, "good": 1}}
    model = AutoModelForSequenceClassification.from_pretrained(folder, **labels)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model.config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(tmp_path / "encoder")
    tokenizer.save_pretrained(tmp_path / "encoder")
    documents = texts(GOOD, 2, 7) + texts(ORDINARY, 2, 8)
    given = {"model": str(tmp_path / "encoder"), "keep_share": 0.5}
    of_label = {}
    for label in ("good", "bad"):
        verdicts, _ = scored({"encoder": {**given, "label": label}}, documents, tmp_path)
        assert sum(verdict.keep for verdict in verdicts) == 2
        of_label[label] = [float(verdict.columns["quality_score"]) for verdict in verdicts]
    assert [a + b for a, b in zip(*of_label.values(), strict=True)] == pytest.approx([1.0] * 4, abs=1e-5)
    with pytest.raises(UserError, match="has no class 'fine'; it has bad, good"):
        scored({"encoder": {**given, "label": "fine"}}, documents, tmp_path)


@pytest.mark.parametrize("name", ["encoder", "perplexity"])
def test_a_folder_without_a_whole_model_is_refused_at_once(tmp_path: Path, name: str) -> None:
    label = {"label": "good"} if name == "encoder" else {}
    with pytest.raises(UserError, match="is no folder of a whole model"):
        read_steps([{name: {"model": str(tmp_path), "keep_share": 0.5, **label}}])
