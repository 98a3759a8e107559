"""Rows of pre-training to batches: documents of a block apart, held-out sets numbered, pairs weighed."""

from __future__ import annotations

import pytest
import torch
from helpers.pretraining_tokenizers import byte_level_bpe_tokenizer, unigram_tokenizer, wordpiece_tokenizer

from hf_align.pretraining.collators import make_collator
from hf_align.pretraining.collators.table import OBJECTIVES
from hf_align.pretraining.objectives.masked_lm import masked_lm, masked_lm_and_pairs, masked_spans
from hf_align.pretraining.task import (
    causal_batch,
    collated_batch,
    objective_function,
    pretraining_task,
    weighed,
)
from hf_align.training.objectives.seq2seq import seq2seq_lm
from hf_align.types import PretrainingBatch, PretrainingRow

ROWS = [
    PretrainingRow({"input_ids": [5, 6, 7, 8], "segment_lengths": [1, 3]}, 4, source=0),
    PretrainingRow({"input_ids": [9, 10]}, 2, source=1),
    PretrainingRow({"input_ids": [11, 12]}, 2, source=1, counts=False),
]


@pytest.mark.parametrize("packed", [True, False])
def test_blocks_side_by_side_or_padded_have_the_same_targets(packed: bool) -> None:
    batch = causal_batch(ROWS, packed=packed, isolated=True, pad_token_id=0)
    # The first token of a document is predicted from nothing.
    assert batch.target_ids.tolist() == [7, 8, 10] and batch.target_sources.tolist() == [0, 0, 1]
    together = causal_batch(ROWS, packed=packed, isolated=False, pad_token_id=0)
    assert together.target_ids.tolist() == [6, 7, 8, 10]


TOKENIZERS = {"with_specials": byte_level_bpe_tokenizer, "without_specials": unigram_tokenizer}


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_a_filler_adds_no_target(name: str) -> None:
    tokenizer = TOKENIZERS.get(OBJECTIVES[name].examples, wordpiece_tokenizer)()
    task = pretraining_task(name, make_collator(name, tokenizer), packed=False, pad_token_id=0)
    batch = task.collate([task.filler()])
    assert batch.target_tokens == 0 and batch.pairs == 0


def test_objectives_by_name() -> None:
    assert objective_function("mlm") is masked_lm and objective_function("sop") is masked_lm_and_pairs
    assert objective_function("span_mlm") is masked_spans
    assert objective_function("span_corruption") is seq2seq_lm


def test_a_decoders_labels_are_shifted_once() -> None:
    tokenizer = unigram_tokenizer()
    row = PretrainingRow({"input_ids": list(range(5, 17)), "index": 0, "epoch": 0}, 12, source=3)
    batch = collated_batch("decoder_prefix_lm", make_collator("decoder_prefix_lm", tokenizer), [row])
    ids, labels = batch.inputs["input_ids"], batch.inputs["shift_labels"]
    places = (labels != -100).nonzero()
    assert len(places) and all(labels[0, t] == ids[0, t + 1] for _, t in places.tolist())
    assert set(batch.target_sources.tolist()) == {3}


def test_pairs_weigh_as_the_targets_of_the_step() -> None:
    batch = PretrainingBatch({}, torch.zeros(4), torch.zeros(4), pairs=2)
    assert weighed(batch, (12, 3)).pair_weight == 4.0 and weighed(batch, (12, 0)).pair_weight == 12.0
