"""What every collator has: an epoch that workers see, padding to a multiple, and checks of its options."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.pretraining_tokenizers import wordpiece_tokenizer

from hf_align.errors import UserError
from hf_align.pretraining.collators.base import (
    Collator,
    check_above,
    check_at_least,
    check_probability,
    tensors,
)


class Plain(Collator):
    """Inputs and, as labels, the same ids."""

    def collate(self, rows):
        labels = self.padded_labels(rows.ids, rows.lengths)
        return {**self.padded_inputs(rows.ids, rows.lengths), "labels": labels}


def test_rows_are_padded_to_a_multiple() -> None:
    tokenizer = wordpiece_tokenizer()
    batch = Plain(tokenizer, pad_to_multiple_of=4)([[5, 6, 7, 8, 9], [6]])
    pad = tokenizer.pad_token_id
    assert batch["input_ids"].tolist() == [[5, 6, 7, 8, 9, pad, pad, pad], [6] + [pad] * 7]
    assert batch["attention_mask"].tolist() == [[1] * 5 + [0] * 3, [1] + [0] * 7]
    assert batch["labels"].tolist() == [[5, 6, 7, 8, 9, -100, -100, -100], [6] + [-100] * 7]
    assert all(tensor.dtype == torch.int64 for tensor in batch.values())


def test_the_epoch_lies_in_shared_memory() -> None:
    collator = Plain(wordpiece_tokenizer())
    assert collator.epoch == 0
    collator.set_epoch(7)
    assert collator.epoch == 7 and collator._epoch.is_shared()


def test_tensors_share_memory() -> None:
    array = np.arange(4)
    made = tensors({"x": array})["x"]
    array[0] = 9
    assert made.tolist() == [9, 1, 2, 3]


@pytest.mark.parametrize(
    ("check", "good", "bad", "words"),
    [
        (lambda v: check_at_least("x", v, 1), 1, 0, "x: found 0, expected a number of at least 1"),
        (lambda v: check_above("x", v, 1), 1.5, 1, "x: found 1, expected a number above 1"),
        (lambda v: check_probability(x=v), 1, 1.01, "x: found 1.01, expected a number from 0 to 1"),
        (lambda v: check_probability(x=v), 0, float("nan"), "x: found nan"),
    ],
)
def test_options(check, good, bad, words) -> None:
    check(good)
    with pytest.raises(UserError, match=words):
        check(bad)


def test_a_collator_without_a_noise_and_with_ids_of_another_tokenizer() -> None:
    with pytest.raises(NotImplementedError):
        Collator(wordpiece_tokenizer())([[5]])
    with pytest.raises(UserError, match="token id 99999"):
        Plain(wordpiece_tokenizer())([[99999]])
    with pytest.raises(UserError, match="pad_to_multiple_of: found 0"):
        Plain(wordpiece_tokenizer(), pad_to_multiple_of=0)
