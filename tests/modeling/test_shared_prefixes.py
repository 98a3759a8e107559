"""Answers as branches of one prompt are the same computation as separate sequences, in float32."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.comparisons import random_comparison
from helpers.tiny_models import PACKABLE, UNPACKABLE, tiny_model
from transformers import PreTrainedModel

from hf_align.data.comparisons.batches import collate_comparisons
from hf_align.modeling.attention import packing_probe
from hf_align.modeling.attention.packing_probe import enable_segment_attention, shares_prefixes
from hf_align.modeling.checkpointing import disable_checkpointing, enable_checkpointing
from hf_align.modeling.heads.target import install_target_head
from hf_align.modeling.inputs import model_inputs
from hf_align.types import ComparisonBatch, ComparisonRow, TokenizedRow

# Prompts shorter and longer than the sliding windows of the tiny models (6), pairs and rankings, no prompt.
ROWS = [
    random_comparison(11, (7, 4), seed=1),
    random_comparison(2, (3, 9, 5, 8), seed=2),
    random_comparison(0, (6, 5), seed=3),
    random_comparison(17, (2, 2, 12), seed=4),
]


def oracle(model: PreTrainedModel, rows: list[ComparisonRow]) -> torch.Tensor:
    """Log-probabilities by the model's untouched forward, one whole sequence at a time."""
    pieces = []
    for row in rows:
        for k in range(len(row.branches)):
            sequence = row.sequence(k)
            ids = torch.tensor(sequence.input_ids, dtype=torch.long)
            logps = torch.log_softmax(model(input_ids=ids[None]).logits[0].float(), dim=-1)
            pieces += [logps[t - 1, ids[t]] for t in np.flatnonzero(sequence.target_mask)]
    return torch.stack(pieces)


def gradients(model: PreTrainedModel, logps: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    (logps * torch.linspace(0.5, 1.5, len(logps))).sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def run(model: PreTrainedModel, batch: ComparisonBatch) -> torch.Tensor:
    return model(**model_inputs(batch.inputs)).logps


@pytest.fixture(scope="module", params=sorted(PACKABLE))
def prepared(request: pytest.FixtureRequest) -> tuple[PreTrainedModel, torch.Tensor, dict[str, torch.Tensor]]:
    model = tiny_model(request.param)
    if request.param in ("gemma2", "mistral", "gemma3"):
        model.set_attn_implementation("eager")
    expected = oracle(model, ROWS)
    expected_gradients = gradients(model, expected)
    assert enable_segment_attention(model) and shares_prefixes(model)
    install_target_head(model)
    return model, expected.detach(), expected_gradients


@pytest.mark.parametrize("share_prefix", [True, False])
def test_branches_equal_separate_sequences_with_gradients(prepared: tuple, share_prefix: bool) -> None:
    model, expected, expected_gradients = prepared
    batch = collate_comparisons(ROWS, packed=True, share_prefix=share_prefix)
    logps = run(model, batch)
    torch.testing.assert_close(logps, expected, rtol=1e-5, atol=1e-6)
    found = gradients(model, logps)
    assert found.keys() == expected_gradients.keys()
    for name, gradient in expected_gradients.items():
        error = (found[name] - gradient).abs().max() / gradient.abs().max().clamp(min=1e-3)
        assert error < 2e-5, f"{name}: {error:.1e}"


def test_changing_one_answer_never_changes_another(prepared: tuple) -> None:
    model, _, _ = prepared
    row = ROWS[1]
    changed = row.branches[1].input_ids.copy()
    changed[1:] = 3 + (changed[1:] + 5) % 90
    branches = (row.branches[0], TokenizedRow(changed, row.branches[1].target_mask), *row.branches[2:])
    other = ComparisonRow(row.prefix, branches, row.scores)
    with torch.no_grad():
        before, after = (
            run(model, collate_comparisons([ROWS[0], r, ROWS[3]], packed=True)) for r in (row, other)
        )
    answers = collate_comparisons([ROWS[0], row, ROWS[3]], packed=True).target_answers
    assert torch.equal(before[answers != 3], after[answers != 3])
    assert not torch.equal(before[answers == 3], after[answers == 3])


def test_gradient_checkpointing_changes_nothing(prepared: tuple) -> None:
    model, expected, _ = prepared
    enable_checkpointing(model)
    try:
        torch.testing.assert_close(
            run(model, collate_comparisons(ROWS, packed=True)), expected, rtol=1e-5, atol=1e-6
        )
    finally:
        disable_checkpointing(model)


@pytest.mark.parametrize("family", sorted(UNPACKABLE))
def test_a_family_that_cannot_be_packed_gives_the_same_padded(family: str) -> None:
    model = tiny_model(family)
    expected = oracle(model, ROWS)
    assert not enable_segment_attention(model)
    install_target_head(model)
    logps = run(model, collate_comparisons(ROWS, packed=False))
    torch.testing.assert_close(logps, expected, rtol=1e-5, atol=1e-6)


def test_the_probe_finds_branches_that_see_each_other(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model = tiny_model("llama")
    assert enable_segment_attention(model)

    def forget_parents(batch):
        inputs = model_inputs(batch)
        object.__setattr__(inputs["segments"], "parents", ())
        return inputs

    monkeypatch.setattr(packing_probe, "model_inputs", forget_parents)
    with caplog.at_level("WARNING"):
        assert not shares_prefixes(model)
    assert "a branch differs from the same sequence alone" in caplog.text


def test_half_precision_branches_are_close() -> None:
    model = tiny_model("llama")
    expected = oracle(model, ROWS)
    assert enable_segment_attention(model)
    install_target_head(model)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logps = run(model, collate_comparisons(ROWS, packed=True))
    assert (logps - expected).norm() / expected.norm() < 0.02
