"""Documents as rows of pre-training: cut into blocks, held-out data sets apart, stages mixed by weight."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers.pretraining_tokenizers import byte_level_bpe_tokenizer

from hf_align.pretraining.collators import make_collator
from hf_align.pretraining.data import PretrainingData, StageCut, prepare_pretraining
from hf_align.pretraining.recipe_data import PretrainDataConfig
from hf_align.pretraining.staged import StagedRows


@pytest.fixture
def texts(tmp_path: Path) -> list[str]:
    paths = []
    for name, word in (("one", "lamp"), ("two", "river")):
        path = tmp_path / f"{name}.txt"
        path.write_text("".join(f"The {word} number {i} is here again. " * 3 + "\n" for i in range(8)))
        paths.append(str(path))
    return paths


def prepare(texts: list[str], stages: Any = (), **options: Any) -> PretrainingData:
    tokenizer = byte_level_bpe_tokenizer()
    data = PretrainDataConfig(datasets=texts, block_length=16, dataset_cache=False, **options)
    return prepare_pretraining(
        data, tokenizer, make_collator("causal", tokenizer), "causal", seed=0, stages=stages
    )


def test_blocks_hold_every_token_once(texts: list[str]) -> None:
    found = prepare(texts, eval_datasets=texts[1:])
    rows = [found.train[i] for i in range(len(found.train))]
    assert max(len(row) for row in rows) <= 16
    ids = sorted(int(token) for row in rows for token in row.example["input_ids"])
    again = prepare(texts, packing=False)
    loose = [again.train[i] for i in range(len(again.train))]
    assert sorted(int(token) for row in loose for token in row.example["input_ids"]) == ids
    assert len(loose) >= len(rows)
    (source,) = found.eval_sources
    assert source.name.endswith("two.txt") and source.characters_per_token > 1
    assert {row.source for row in found.eval} == {0} and found.train_fingerprint != again.train_fingerprint


def test_a_stage_may_leave_a_data_set_out(texts: list[str]) -> None:
    tokenizer = byte_level_bpe_tokenizer()
    stages = [StageCut(2, 16, 2, (1.0, 0.0)), StageCut(1, 32, 2, (0.0, 1.0))]
    found = prepare(texts, stages=stages).train
    assert isinstance(found, StagedRows) and len(found) == 2 * 2 + 1 * 2
    said = ["", ""]
    for step in found.step_sampler(rank=0, world_size=1):
        for key in step:
            said[key[0]] += tokenizer.decode(found[key].example["input_ids"])
    assert "lamp" in said[0] and "river" not in said[0]
    assert "river" in said[1] and "lamp" not in said[1]
