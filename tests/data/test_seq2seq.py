"""Prompts and answers of encoder-decoder models: ids of the tokenizer itself, and batches that split them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.pretraining_tokenizers import unigram_tokenizer, wordpiece_tokenizer

from hf_align.data.reading.raw import MalformedRow
from hf_align.data.seq2seq import Seq2SeqEncoder, collate_seq2seq, prompt_and_answer
from hf_align.errors import UserError
from hf_align.types import Example, Message, TokenizedRow

TALK = Example(
    "p:1", messages=(Message("system", "s"), Message("user", "the order"), Message("assistant", "yes"))
)
PAIR = Example("p:2", prompt="the city", completion="no")


def test_turns_before_the_last_answer_are_joined() -> None:
    assert prompt_and_answer(TALK) == ("s\nthe order", "yes") and prompt_and_answer(PAIR) == (
        "the city",
        "no",
    )
    for bad in (Example("p", text="x"), Example("p", messages=(Message("assistant", "x"),))):
        with pytest.raises(MalformedRow):
            prompt_and_answer(bad)


def test_rows_are_the_tokenizers_own_ids() -> None:
    tokenizer = unigram_tokenizer()
    row, bad, other = Seq2SeqEncoder(tokenizer).encode([TALK, Example("p", text="x"), PAIR])
    assert isinstance(bad, MalformedRow)
    for found, example in ((row, TALK), (other, PAIR)):
        prompt, answer = prompt_and_answer(example)
        ids = tokenizer(prompt).input_ids
        answered = tokenizer(text_target=answer).input_ids
        answered += [] if answered[-1] == tokenizer.eos_token_id else [tokenizer.eos_token_id]
        assert found.input_ids.tolist() == ids + answered
        assert found.target_mask.tolist() == [False] * len(ids) + [True] * len(answered)
    with pytest.raises(UserError, match="no end-of-sequence token"):
        Seq2SeqEncoder(wordpiece_tokenizer()).encode([PAIR])


def test_a_batch_takes_them_apart_again() -> None:
    rows = [
        TokenizedRow(np.array([5, 6, 7, 2], np.int32), np.array([False, False, True, True])),
        TokenizedRow(np.array([8, 2], np.int32), np.array([False, True])),
        TokenizedRow(np.array([9], np.int32), np.array([False])),
    ]
    batch = collate_seq2seq(rows, pad_token_id=0)
    assert batch.inputs["input_ids"].tolist() == [[5, 6], [8, 0], [9, 0]]
    assert batch.inputs["attention_mask"].tolist() == [[1, 1], [1, 0], [1, 0]]
    assert batch.inputs["shift_labels"].tolist() == [[7, 2], [2, -100], [-100, -100]]
    assert torch.equal(batch.target_ids, torch.tensor([7, 2, 2]))
    with pytest.raises(ValueError, match="at least one row"):
        collate_seq2seq([], pad_token_id=0)
