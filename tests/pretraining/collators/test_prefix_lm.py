"""Prefix language modelling: uniform cuts, round trip, and what a decoder sees."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.pretraining_tokenizers import (
    end_marked_bpe_tokenizer,
    indexed,
    random_rows,
    unigram_tokenizer,
    wordpiece_tokenizer,
)
from helpers.tiny_models import tiny_model
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_align.errors import UserError
from hf_align.pretraining.collators.prefix_lm import PrefixLMCollator

EOS, PAD, IGNORED = 1, 0, -100


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=5), st.booleans())
def test_both_parts_give_the_text(lengths, closing):
    tokenizer = unigram_tokenizer()
    rows = random_rows(tokenizer, lengths, specials=False)
    batch = PrefixLMCollator(tokenizer)(indexed([[*row, EOS] if closing else row for row in rows]))
    for row, ids, mask, labels in zip(
        rows, batch["input_ids"], batch["attention_mask"], batch["labels"], strict=True
    ):
        prefix, rest = ids[mask.bool()].tolist(), labels[labels != IGNORED].tolist()
        assert prefix[-1] == rest[-1] == EOS
        assert prefix[:-1] + rest[:-1] == row
        assert len(prefix) > 1
        assert len(rest) > 1 or len(row) == 1


def test_cuts_are_uniform():
    tokenizer = unigram_tokenizer()
    batch = PrefixLMCollator(tokenizer)(indexed([[50, 51, 52, 53, 54, 55]] * 100000))
    cuts = batch["attention_mask"].sum(dim=1).numpy() - 1
    counts = np.bincount(cuts)[1:]
    assert len(counts) == 5
    assert np.abs(counts / 100000 - 0.2).max() < 5 * np.sqrt(0.16 / 100000)


def test_rows_for_a_decoder():
    tokenizer = unigram_tokenizer()
    rows = [[50, 51, 52, 53], [60, 61]]
    batch = PrefixLMCollator(tokenizer, form="decoder")(indexed(rows))
    lowest = torch.finfo(torch.float32).min
    for row, ids, labels, mask in zip(
        rows, batch["input_ids"], batch["labels"], batch["attention_mask"], strict=True
    ):
        assert ids[: len(row)].tolist() == row
        prefix = int((labels[: len(row)] == IGNORED).sum())
        assert 1 <= prefix < len(row)
        assert labels[prefix : len(row)].tolist() == row[prefix:]
        for query in range(4):
            seen = [key < len(row) and (key <= query or key < prefix) for key in range(4)]
            assert mask[0, query].tolist() == [0.0 if see else lowest for see in seen]


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_a_decoder_sees_the_whole_prefix_and_nothing_ahead(attention):
    model = tiny_model("llama")
    model.set_attn_implementation(attention)
    collator = PrefixLMCollator(unigram_tokenizer(), form="decoder")
    row = list(range(50, 60))
    example = indexed([row, row[:4]])
    batch = collator(example)
    prefix = int((batch["labels"][0] == IGNORED).sum())
    assert 2 <= prefix <= 8, "the cut is in the middle for this seed"

    def logits(changed: int | None) -> torch.Tensor:
        ids = batch["input_ids"].clone()
        if changed is not None:
            ids[0, changed] = 70
        with torch.no_grad():
            return model(input_ids=ids, attention_mask=batch["attention_mask"]).logits[0]

    moved_in_prefix = (logits(prefix - 1) - logits(None)).abs().amax(dim=-1) > 1e-6
    assert moved_in_prefix.all(), "every position sees the last token of the prefix"
    moved_after = (logits(prefix + 1) - logits(None)).abs().amax(dim=-1) > 1e-6
    assert not moved_after[: prefix + 1].any()
    assert moved_after[prefix + 1 :].all()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert model(**batch).loss.isfinite()


def test_mistakes_are_explained():
    with pytest.raises(UserError, match="form: found 'encoder'"):
        PrefixLMCollator(unigram_tokenizer(), form="encoder")
    with pytest.raises(UserError, match="no eos token"):
        PrefixLMCollator(wordpiece_tokenizer())
    with pytest.raises(UserError, match="no pad token"):
        PrefixLMCollator(end_marked_bpe_tokenizer(), form="decoder")
