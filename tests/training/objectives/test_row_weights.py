"""Rows with weights: 2 is the row twice, 0 is the row left out, and the mean is taken by weight."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from accelerate import Accelerator
from helpers.tiny_models import random_rows, tiny_model

from hf_align.data.packing import pack_rows, pad_rows
from hf_align.modeling.attention.packing_probe import enable_segment_attention
from hf_align.modeling.heads.target import install_target_head
from hf_align.training.step import compute_gradients
from hf_align.training.tasks import language_model_task
from hf_align.types import TokenizedRow

ROWS = random_rows([12, 7, 20])


def weighed(*weights: float) -> list[TokenizedRow]:
    return [replace(row, weight=weight) for row, weight in zip(ROWS, weights, strict=True)]


def gradient(
    rows: Sequence[TokenizedRow], *, packed: bool = True, budget: int = 1000
) -> tuple[float, torch.Tensor]:
    """(loss of a step, its gradient in one line)."""
    model = tiny_model("llama").train()
    if packed:
        assert enable_segment_attention(model)
    install_target_head(model)
    task = language_model_task(packed=packed, pad_token_id=0)
    result = compute_gradients(model, rows, task, Accelerator(cpu=True), max_tokens=budget)
    return result.loss, torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def same(first: tuple[float, torch.Tensor], other: tuple[float, torch.Tensor]) -> None:
    assert first[0] == pytest.approx(other[0], rel=1e-5)
    torch.testing.assert_close(first[1], other[1], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("budget", [1000, 20])
def test_a_weight_is_that_many_copies(packed: bool, budget: int) -> None:
    copies = [ROWS[0], ROWS[0], ROWS[1], ROWS[2], ROWS[2], ROWS[2]]
    same(gradient(weighed(2, 1, 3), packed=packed, budget=budget), gradient(copies, packed=packed))
    same(gradient(weighed(2e-3, 1e-3, 3e-3), packed=packed), gradient(copies, packed=packed))


def test_no_weight_is_no_row_and_all_alike_is_none() -> None:
    same(gradient(weighed(1, 0, 1)), gradient([ROWS[0], ROWS[2]]))
    same(gradient(weighed(0.5, 0.5, 0.5)), gradient(ROWS))


def test_the_mean_is_taken_by_weight() -> None:
    losses = [gradient([row])[0] for row in ROWS]
    counts = [row.target_tokens * weight for row, weight in zip(ROWS, (2, 1, 0.5), strict=True)]
    expected = sum(loss * count for loss, count in zip(losses, counts, strict=True)) / sum(counts)
    assert gradient(weighed(2, 1, 0.5))[0] == pytest.approx(expected, rel=1e-5)


def test_batches_have_a_weight_for_each_target_or_none() -> None:
    assert pack_rows(ROWS).weights is None and pad_rows(ROWS, 0).weights is None
    for batch in (pack_rows(weighed(2, 1, 0.5)), pad_rows(weighed(2, 1, 0.5), 0)):
        expected = [w for row, w in zip(ROWS, (2, 1, 0.5), strict=True) for _ in range(row.target_tokens)]
        assert batch.weights is not None and batch.weights.tolist() == expected
