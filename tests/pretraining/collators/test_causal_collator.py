"""Next-token prediction: blocks without loss, isolation in a real model, labels of the boundaries."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.pretraining_tokenizers import end_marked_bpe_tokenizer, unigram_tokenizer
from helpers.tiny_models import tiny_model
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_align.errors import UserError
from hf_align.pretraining.collators.causal import CausalCollator, token_blocks


@settings(deadline=None, max_examples=100)
@given(
    documents=st.lists(st.lists(st.integers(2, 90), max_size=20), max_size=10),
    length=st.integers(1, 12),
    separator=st.sampled_from([1, None]),
    keep_last=st.booleans(),
)
def test_blocks_hold_every_token_once_in_order(documents, length, separator, keep_last):
    blocks = list(token_blocks(iter(documents), length, separator=separator, keep_last=keep_last))
    line = [id for document in documents for id in [*document, *([separator] if separator else [])]]
    joined = [id for block in blocks for id in block["input_ids"].tolist()]
    assert joined == (line if keep_last else line[: len(line) // length * length])
    assert [block["index"] for block in blocks] == list(range(len(blocks)))
    assert all(len(block["input_ids"]) == length for block in blocks[:-1])
    for block in blocks:
        assert sum(block["segment_lengths"]) == len(block["input_ids"])
    if separator:
        # A document begins after each separator, and where a block does.
        for block in blocks:
            ends = np.cumsum(block["segment_lengths"])[:-1] - 1
            assert ends.tolist() == np.flatnonzero(block["input_ids"][:-1] == 1).tolist()


def test_a_document_that_ends_with_the_separator_gets_no_second_one():
    (block,) = token_blocks([[5, 6, 1], [7]], 5, separator=1)
    assert block["input_ids"].tolist() == [5, 6, 1, 7, 1]
    assert block["segment_lengths"] == [3, 2]


def test_isolated_batches():
    collator = CausalCollator(unigram_tokenizer())
    blocks = list(token_blocks([[50, 51, 52], [60], [70, 71]], 6, separator=1, keep_last=True))
    batch = collator(blocks)
    assert batch["input_ids"].tolist() == [[50, 51, 52, 1, 60, 1, 70, 71, 1]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 3, 0, 1, 0, 1, 2]]
    assert batch["labels"].tolist() == [[-100, 51, 52, 1, -100, 1, -100, 71, 1]]
    assert set(batch) == {"input_ids", "position_ids", "labels"}


def test_batches_without_isolation():
    batch = CausalCollator(unigram_tokenizer(), isolated=False)([[50, 51, 1], [60, 1]])
    assert batch["input_ids"].tolist() == [[50, 51, 1], [60, 1, 0]]
    assert batch["labels"].tolist() == [[50, 51, 1], [60, 1, -100]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]


def test_documents_do_not_see_each_other_in_a_transformers_model():
    model = tiny_model("llama")
    documents = [[5, 6, 7, 8], [9, 10], [11, 12, 13]]
    batch = CausalCollator(unigram_tokenizer())(documents)
    batch.pop("labels")
    with torch.no_grad():
        packed = model(**batch, use_cache=False).logits[0]
        alone = torch.cat([model(torch.tensor([ids])).logits[0] for ids in documents])
    torch.testing.assert_close(packed, alone, atol=1e-5, rtol=1e-5)


def test_the_loss_is_that_of_the_documents_by_themselves():
    model = tiny_model("llama")
    documents = [[5, 6, 7, 8], [9, 10], [11, 12, 13]]
    with torch.no_grad():
        packed = model(**CausalCollator(unigram_tokenizer())(documents), use_cache=False).loss
        sums = [
            model(torch.tensor([ids]), labels=torch.tensor([ids])).loss * (len(ids) - 1) for ids in documents
        ]
    assert packed.item() == pytest.approx(sum(sums).item() / 6, rel=1e-5)


def test_mistakes_are_explained():
    with pytest.raises(UserError, match="segment_lengths add up to 5, but the example has 3 tokens"):
        CausalCollator(unigram_tokenizer())([{"input_ids": [50, 51, 52], "segment_lengths": [2, 3]}])
    with pytest.raises(UserError, match="length: found 0"):
        list(token_blocks([[1]], 0, separator=None))
    with pytest.raises(UserError, match="no pad token"):
        CausalCollator(end_marked_bpe_tokenizer(), isolated=False)
    assert CausalCollator(end_marked_bpe_tokenizer())([[5, 6]])["input_ids"].tolist() == [[5, 6]]
