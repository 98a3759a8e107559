"""Lengths are rounded up to few, at little cost, and what is added changes nothing that counts."""

from __future__ import annotations

import os

import pytest
import torch
from helpers.comparisons import random_comparison
from helpers.tiny_models import PACKABLE, random_rows, tiny_model

from hf_align.data.comparisons.batches import collate_comparisons
from hf_align.data.packing import pack_rows
from hf_align.modeling import inputs as inputs_module
from hf_align.modeling.attention.packing_probe import enable_segment_attention, shares_prefixes
from hf_align.modeling.few_shapes import compiles, few_length, pad_rows_to
from hf_align.modeling.heads.target import install_target_head
from hf_align.modeling.inputs import model_inputs
from hf_align.runs.memory import PRIMITIVES, limit_compiled_products

TREES = [random_comparison(11, (7, 4), seed=1), random_comparison(2, (3, 9, 5, 8), seed=2)]
BATCHES = [pack_rows(random_rows([9, 1, 23, 14], seed=3)), collate_comparisons(TREES, packed=True).inputs]


@pytest.mark.parametrize("per_octave", [8, 16])
def test_lengths_are_few_and_near(per_octave: int) -> None:
    found = [few_length(length, per_octave) for length in range(1, 8193)]
    assert found == sorted(found) and all(length % 16 == 0 for length in found)
    for length, rounded in zip(range(1, 8193), found, strict=True):
        assert length <= rounded < length + max(16, length / per_octave)
        assert few_length(rounded, per_octave) == rounded
    assert len(set(found)) <= 16 + per_octave * 6
    assert few_length(0) == 0


def test_counts_below_a_tile() -> None:
    found = [few_length(count, 8, 1) for count in range(1, 65)]
    assert found[:16] == list(range(1, 17)) and found[16:32:2] == list(range(18, 33, 2)) == found[17:32:2]
    assert len(set(found)) == 32 and found[-1] == 64


def test_rows_of_zeros_are_added_behind() -> None:
    states = torch.arange(6.0).view(3, 2)
    assert pad_rows_to(states, 5).tolist() == [[0, 1], [2, 3], [4, 5], [0, 0], [0, 0]]
    assert pad_rows_to(torch.tensor([4, 5]), 3).tolist() == [4, 5, 0]
    assert pad_rows_to(states, 3) is states


def test_products_are_compiled_in_half_precision_on_a_cpu() -> None:
    single = torch.zeros(1)
    assert compiles(single.bfloat16()) and compiles(single.half()) and not compiles(single)
    with torch.autocast("cpu", torch.bfloat16):
        assert compiles(single)
    assert not compiles(single.bfloat16().to("meta"))


def test_the_users_own_limit_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"
    monkeypatch.setenv(name, "77")
    limit_compiled_products()
    assert os.environ[name] == "77"
    monkeypatch.delenv(name)
    limit_compiled_products()
    assert os.environ[name] == str(PRIMITIVES)


@pytest.mark.parametrize("family", sorted(PACKABLE))
@pytest.mark.parametrize("batch", BATCHES, ids=["rows", "trees"])
def test_filler_changes_neither_values_nor_gradients(
    family: str, batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model(family)
    assert enable_segment_attention(model) and shares_prefixes(model)
    install_target_head(model)

    def passed() -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        given = model_inputs(batch)
        model.zero_grad()
        logps = model(**given).logps
        (logps * torch.linspace(1, 2, len(logps))).sum().backward()
        return logps.detach(), {n: p.grad for n, p in model.named_parameters() if p.grad is not None}

    found, gradients = passed()
    monkeypatch.setattr(inputs_module, "few_length", lambda length: length + 37)
    more, more_gradients = passed()
    monkeypatch.setattr(inputs_module, "few_length", lambda length: length)
    expected, plain = passed()
    for logps, grads in ((found, gradients), (more, more_gradients)):
        torch.testing.assert_close(logps, expected, rtol=1e-5, atol=2e-6)
        assert grads.keys() == plain.keys()
        for name, gradient in plain.items():
            scale = float(gradient.abs().max().clamp(min=1e-3))
            torch.testing.assert_close(grads[name] / scale, gradient / scale, rtol=1e-4, atol=1e-5)
