"""Classifiers from a model's weights, from its embeddings, at random, and with a frozen base."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.tiny_classifiers import save_model
from transformers import AutoModel

from hf_align.classify.model import (
    known_labels,
    load_classifier,
    load_classifier_base,
    reads_segments,
    train_head_only,
)
from hf_align.config import ModelConfig
from hf_align.errors import UserError

LABELS = ("bad", "fair", "good")


def load(folder: str, **options: Any) -> Any:
    given = {"labels": LABELS, "trainable_base": True, "precision": "fp32", "use_cpu": True, **options}
    return load_classifier_base(ModelConfig(folder), **given)


def embeddings(model: Any) -> torch.Tensor:
    return model.get_input_embeddings().weight


@pytest.mark.parametrize("kind", ["llama", "bert"])
def test_where_it_begins(kind: str, tmp_path: Path) -> None:
    folder = save_model(kind, tmp_path)
    base = dict(AutoModel.from_pretrained(folder, dtype=torch.float32).named_parameters())
    whole, vectors, fresh = (load(folder, init_from=start) for start in ("weights", "embeddings", "random"))
    for model in (whole, vectors, fresh):
        assert model.config.num_labels == 3 and model.config.id2label[2] == "good"
    trunk = dict(whole.base_model.named_parameters())
    # The pooler is no part of a masked language model, and new in all of them.
    shared = [name for name in trunk if name in base and "pooler" not in name]
    assert len(shared) > 5 and all(torch.equal(trunk[name], base[name]) for name in shared)
    assert torch.equal(embeddings(vectors), embeddings(whole))
    assert not torch.equal(embeddings(fresh), embeddings(whole))
    inner = next(name for name in shared if name.endswith("weight") and "layer" in name)
    assert not torch.equal(dict(vectors.base_model.named_parameters())[inner], trunk[inner])


def test_only_the_head_is_trained(tmp_path: Path) -> None:
    model = load(save_model("bert", tmp_path))
    train_head_only(model)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert {name.partition(".")[0] for name in trained} == {"classifier", "bert"}
    assert all("pooler" in name for name in trained if name.startswith("bert"))
    assert model.bert.embeddings.dropout.p == 0
    assert reads_segments(model)


def test_what_was_saved_knows_its_classes(tmp_path: Path) -> None:
    folder = save_model("llama", tmp_path / "base")
    assert known_labels(ModelConfig(folder)) is None and not reads_segments(load(folder))
    model = load(folder)
    model.save_pretrained(folder)
    assert known_labels(ModelConfig(folder)) == LABELS
    loaded, tokenizer = load_classifier(folder, use_cpu=True)
    assert not loaded.training and loaded.config.id2label[0] == "bad" and len(tokenizer) > 0
    with pytest.raises(UserError, match="is a classifier with 3 outputs, and there are 2 labels"):
        load(folder, labels=LABELS[:2])
    assert load(folder, labels=LABELS[:2], init_from="random").config.num_labels == 2


def test_a_model_that_names_no_classes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="this model names no classes"):
        load_classifier(save_model("llama", tmp_path), use_cpu=True)
