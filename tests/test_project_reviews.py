"""The project's own reviews: reproducible, balanced, held out, for a classifier and for a chat model."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from helpers.scripts import DATA, load_script
from helpers.tiny_checkpoint import tiny_tokenizer

from hf_align.classify.data import prepare_labelled
from hf_align.config import DataConfig, DatasetConfig
from hf_align.data.chat.prompts import read_prompts

FILES = ("reviews_en.jsonl", "reviews_heldout.jsonl")


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    return load_script(DATA / "make_reviews.py")


def read(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (DATA / name).read_text(encoding="utf-8").splitlines()]


def test_the_generator_reproduces_the_committed_files(maker: ModuleType, tmp_path: Path) -> None:
    assert maker.main(["--output", str(tmp_path)]) == 0
    for name in FILES:
        assert (tmp_path / name).read_bytes() == (DATA / name).read_bytes(), name


@pytest.mark.parametrize(("name", "count"), [(FILES[0], 480), (FILES[1], 160)])
def test_both_labels_are_equally_many_and_a_third_concedes(name: str, count: int) -> None:
    rows = read(name)
    assert len(rows) == count and len({row["text"] for row in rows}) == count
    assert sum(row["label"] == "positive" for row in rows) == count // 2
    assert {row["label"] for row in rows} == {"positive", "negative"}
    assert 0.25 < sum(row["concedes"] for row in rows) / count < 0.42
    words = [len(row["text"].split()) for row in rows]
    assert min(words) >= 7 and max(words) <= 39


def test_a_review_says_what_its_label_says(maker: ModuleType) -> None:
    """Its statements are of its own side, and where it concedes, one is of the other."""
    praise = {phrase for part in maker.PARTS for phrase in part.praise}
    blame = {phrase for part in maker.PARTS for phrase in part.blame}
    assert not praise & blame
    for row in [*read(FILES[0]), *read(FILES[1])]:
        found = {phrase in praise for phrase in praise | blame if phrase in row["text"]}
        positive = row["label"] == "positive"
        assert found == ({True, False} if row["concedes"] else {positive}), row


def test_held_out_reviews_are_of_other_things_and_half_of_them_in_other_words(maker: ModuleType) -> None:
    train, held_out = ([row["text"] for row in read(name)] for name in FILES)
    assert not set(train) & set(held_out)
    things = {thing.name for thing in maker.TRAIN_THINGS}
    assert not things & {thing.name for thing in maker.HELDOUT_THINGS}
    for frames in ("openings", "statements", "contrasts"):
        shared = set(getattr(maker.TRAIN, frames)) & set(getattr(maker.HELDOUT, frames))
        assert shared <= {""}, frames
    new = {phrase for part in maker.PARTS for phrase in (*part.praise[2:], *part.blame[2:])}
    assert not any(phrase in text for text in train for phrase in new)
    assert sum(any(phrase in text for phrase in new) for text in held_out) == len(held_out) // 2


def test_the_same_file_serves_a_classifier_and_a_chat_model() -> None:
    path, tokenizer = str(DATA / FILES[1]), tiny_tokenizer()
    labelled = prepare_labelled(DataConfig([DatasetConfig(path)]), tokenizer, seed=0)
    assert labelled.labels == ("negative", "positive") and len(labelled.train) == 160
    asked = DataConfig([DatasetConfig(path, format="alpaca", columns={"input": "text", "output": "label"})])
    prompts, _ = read_prompts(asked, tokenizer)
    first = read(FILES[1])[0]
    assert first["text"] in prompts[0].text and prompts[0].reference == first["label"]
