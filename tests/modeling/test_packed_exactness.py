"""Packed, padded and one by one are the same computation: log-probabilities and gradients, in float32."""

from __future__ import annotations

import pytest
import torch
from helpers.packed_gradients import ROWS, assert_same, gradients, oracle, rows_with_targets, run
from helpers.tiny_models import PACKABLE, tiny_model
from transformers import PreTrainedModel

from hf_align.data.packing import pack_rows, pad_rows
from hf_align.modeling.attention.packing_probe import enable_segment_attention
from hf_align.modeling.checkpointing import disable_checkpointing, enable_checkpointing
from hf_align.modeling.heads.target import install_target_head


@pytest.fixture(scope="module", params=sorted(PACKABLE))
def packable(request: pytest.FixtureRequest) -> tuple[PreTrainedModel, tuple]:
    model = tiny_model(request.param)
    if request.param in ("gemma2", "mistral", "gemma3"):
        model.set_attn_implementation("eager")
    rows = [row for row in ROWS if row.target_tokens]
    expected = oracle(model, rows)
    reference = (expected.detach(), gradients(model, expected))
    assert enable_segment_attention(model), request.param
    install_target_head(model)
    return model, reference


def test_packed_equals_one_by_one(packable: tuple) -> None:
    model, reference = packable
    assert_same(run(model, pack_rows(rows_with_targets())), reference)


def test_padded_equals_one_by_one(packable: tuple) -> None:
    model, reference = packable
    assert_same(run(model, pad_rows(rows_with_targets(), pad_token_id=0)), reference)


def test_gradient_checkpointing_changes_nothing(packable: tuple) -> None:
    model, reference = packable
    model.train()
    enable_checkpointing(model)
    try:
        for dropout in [m for m in model.modules() if isinstance(m, torch.nn.Dropout)]:
            dropout.p = 0.0
        for module in model.modules():
            if hasattr(module, "attention_dropout") and isinstance(module.attention_dropout, float):
                module.attention_dropout = 0.0
        assert_same(run(model, pack_rows(rows_with_targets())), reference)
    finally:
        disable_checkpointing(model)
        model.eval()
