"""Packed, padded and one by one are the same computation: log-probabilities and gradients, in float32."""

from __future__ import annotations

import pytest
import torch
from helpers.tiny_models import PACKABLE, UNPACKABLE, random_rows, tiny_model
from transformers import PreTrainedModel

from hf_align.data.packing import pack_rows, pad_rows
from hf_align.modeling.inputs import model_inputs
from hf_align.modeling.packing_probe import enable_segment_attention
from hf_align.modeling.target_head import install_target_head
from hf_align.types import Batch, TokenizedRow

ROWS = random_rows([9, 1, 17, 4, 30, 2])


def oracle(model: PreTrainedModel, rows: list[TokenizedRow]) -> torch.Tensor:
    """Log-probabilities by the model's untouched forward, one sequence at a time, full logits."""
    pieces = []
    for row in rows:
        ids = torch.tensor(row.input_ids, dtype=torch.long)
        logits = model(input_ids=ids[None]).logits[0]
        everything = torch.log_softmax(logits.float(), dim=-1)
        pieces.append(
            torch.stack(
                [everything[t - 1, ids[t]] for t in range(1, len(ids)) if row.target_mask[t]]
                or [torch.zeros(0)]
            ).flatten()
        )
    return torch.cat(pieces)


def gradients(model: PreTrainedModel, logps: torch.Tensor) -> dict[str, torch.Tensor]:
    """Gradients of a weighted sum, so that swapped log-probabilities would show."""
    model.zero_grad()
    (logps * torch.linspace(0.5, 1.5, len(logps))).sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_same(ours: tuple, theirs: tuple) -> None:
    torch.testing.assert_close(ours[0], theirs[0], rtol=1e-5, atol=1e-6)
    assert ours[1].keys() == theirs[1].keys()
    for name, gradient in theirs[1].items():
        scale = gradient.abs().max().clamp(min=1e-3)
        error = (ours[1][name] - gradient).abs().max() / scale
        assert error < 2e-5, f"{name}: {error:.1e}"


def run(model: PreTrainedModel, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    logps = model(**model_inputs(batch)).logps
    assert len(logps) == batch.target_tokens
    return logps.detach(), gradients(model, logps)


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


def rows_with_targets() -> list[TokenizedRow]:
    return [row for row in ROWS if row.target_tokens]


def test_packed_equals_one_by_one(packable: tuple) -> None:
    model, reference = packable
    assert_same(run(model, pack_rows(rows_with_targets())), reference)


def test_padded_equals_one_by_one(packable: tuple) -> None:
    model, reference = packable
    assert_same(run(model, pad_rows(rows_with_targets(), pad_token_id=0)), reference)


def test_gradient_checkpointing_changes_nothing(packable: tuple) -> None:
    model, reference = packable
    model.train()
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    try:
        for dropout in [m for m in model.modules() if isinstance(m, torch.nn.Dropout)]:
            dropout.p = 0.0
        for module in model.modules():
            if hasattr(module, "attention_dropout") and isinstance(module.attention_dropout, float):
                module.attention_dropout = 0.0
        assert_same(run(model, pack_rows(rows_with_targets())), reference)
    finally:
        model.gradient_checkpointing_disable()
        model.eval()


@pytest.mark.parametrize("family", sorted(UNPACKABLE))
def test_family_that_cannot_be_packed_is_found_and_padded_exactly(
    family: str, caplog: pytest.LogCaptureFixture
) -> None:
    model = tiny_model(family)
    expected = oracle(model, rows_with_targets())
    reference = (expected.detach(), gradients(model, expected))
    with caplog.at_level("WARNING"):
        assert not enable_segment_attention(model)
    assert "batches are padded" in caplog.text
    install_target_head(model)
    assert_same(run(model, pad_rows(rows_with_targets(), pad_token_id=0)), reference)
