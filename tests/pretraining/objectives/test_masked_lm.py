"""The losses of encoders: hidden tokens, pairs weighed beside them, and boundaries of spans, by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from hf_align.pretraining.objectives.masked_lm import masked_lm, masked_lm_and_pairs, masked_spans
from hf_align.types import PretrainingBatch

LOGPS, CORRECT = torch.tensor([-1.0, -0.5]), torch.tensor([True, False])
TARGETS, SOURCES = torch.tensor([4, 5]), torch.tensor([0, 1])


def model(**output: Any) -> Any:
    return lambda **inputs: {"logps": LOGPS, "correct": CORRECT, **output}


def test_hidden_tokens() -> None:
    found = masked_lm(model(), PretrainingBatch({}, TARGETS, SOURCES))
    assert found.loss_sum == 1.5 and found.count == 2 and found.metrics["correct"] == 1 and not found.details
    with torch.no_grad():
        details = masked_lm(model(), PretrainingBatch({}, TARGETS, SOURCES)).details
    assert details["token_loss"].tolist() == [1.0, 0.5] and details["source"].tolist() == [0, 1]


def test_pairs_count_with_their_weight() -> None:
    pairs = torch.tensor([[0.0, 0.0], [3.0, 3.0], [9.0, 0.0]])
    batch = PretrainingBatch({}, TARGETS, SOURCES, torch.tensor([1, 0, -100]), pairs=2, pair_weight=0.5)
    found = masked_lm_and_pairs(model(pair_logits=pairs), batch)
    # Two pairs of which nothing is known: ln 2 each.
    assert float(found.loss_sum) == pytest.approx(1.5 + 0.5 * 2 * 0.6931472)
    assert found.metrics["pairs"] == 2 and found.metrics["pairs_correct"] == 1
    assert float(found.metrics["pair_loss"]) == pytest.approx(2 * 0.6931472)


def test_spans_count_twice() -> None:
    boundary = {"boundary_logps": torch.tensor([-2.0, -3.0]), "boundary_correct": torch.tensor([False, True])}
    found = masked_spans(model(**boundary), PretrainingBatch({"x": TARGETS}, TARGETS, SOURCES))
    assert found.loss_sum == 1.5 + 5.0 and found.metrics["token_loss"] == 1.5
    assert found.metrics["boundary_loss"] == 5.0 and found.metrics["boundary_correct"] == 1
