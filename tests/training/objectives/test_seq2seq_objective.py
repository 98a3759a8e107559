"""The loss of an encoder-decoder model is transformers' own, summed over its targets."""

from __future__ import annotations

import pytest
import torch
from helpers.tiny_ladders import tiny_seq2seq

from hf_align.modeling.heads.selecting import install_selecting_head
from hf_align.training.objectives.seq2seq import seq2seq_lm
from hf_align.types import PretrainingBatch


@pytest.mark.parametrize("kind", ["t5", "bart"])
def test_the_sum_is_that_of_transformers(kind: str) -> None:
    model, ids = tiny_seq2seq(kind), torch.arange(3, 13).view(2, 5)
    labels = torch.tensor([[5, 6, 7], [8, -100, -100]])
    mean = model(input_ids=ids, labels=labels).loss
    install_selecting_head(model)
    targets = labels[labels != -100]
    inputs = {"input_ids": ids, "shift_labels": labels}
    found = seq2seq_lm(model, PretrainingBatch(inputs, targets, torch.zeros_like(targets)))
    torch.testing.assert_close(found.loss_sum, 4 * mean)
    assert found.count == 4
