"""Scores of tokens: those of plain transformers, one sequence after the other, whatever the batches."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from helpers.comparisons import random_comparison
from helpers.tiny_checkpoint import tiny_tokenizer
from helpers.tiny_ladders import laddered
from helpers.tiny_models import random_rows, tiny_model
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, PromptTuningConfig, get_peft_model

from hf_align.evaluation.scoring import Scorer, make_scorer
from hf_align.modeling.virtual_tokens import install_virtual_tokens
from hf_align.types import TokenizedRow

ROWS = random_rows([9, 4, 23, 2, 14], seed=3)
TREES = [
    random_comparison(11, (7, 4), seed=1),
    random_comparison(2, (3, 9, 5, 8), seed=2),
    random_comparison(0, (6, 5), seed=3),
]


def by_plain_transformers(model: Any, row: TokenizedRow) -> np.ndarray:
    """Log-probabilities of the targets of one row from the logits of its own forward pass."""
    with torch.no_grad():
        logits = model(input_ids=torch.from_numpy(row.input_ids.astype(np.int64))[None]).logits[0]
    logps = logits.float().log_softmax(-1)
    # Virtual tokens of an adapter stand before the row's own.
    logps = logps[len(logps) - len(row) :]
    places = np.flatnonzero(row.target_mask)
    return np.array([float(logps[i - 1, row.input_ids[i]]) for i in places])


def reference(family: str) -> Any:
    """The model under its own attention: some releases of transformers drop soft-capping in others."""
    model = tiny_model(family)
    if model._can_set_attn_implementation():
        model.set_attn_implementation("eager")
    return model


def scorer(model: Any, **options: Any) -> Scorer:
    return make_scorer(model, tiny_tokenizer(), precision="fp32", **options)


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2", "bloom", "gpt_neo"])
@pytest.mark.parametrize("max_tokens", [1, 30, 4096])
def test_rows_and_branches_are_those_of_plain_transformers(family, max_tokens):
    expected = [by_plain_transformers(reference(family), row) for row in ROWS]
    branches = [
        [by_plain_transformers(reference(family), tree.sequence(k)) for k in range(len(tree.branches))]
        for tree in TREES
    ]
    scoring = scorer(tiny_model(family), max_tokens=max_tokens)
    assert scoring.packed == (family not in ("bloom", "gpt_neo"))
    for found, plain in zip(scoring.rows(ROWS), expected, strict=True):
        np.testing.assert_allclose(found, plain, atol=2e-5)
    for found, plain in zip(scoring.branches(TREES), branches, strict=True):
        for ours, theirs in zip(found, plain, strict=True):
            np.testing.assert_allclose(ours, theirs, atol=2e-5)


def _lora(base: Any) -> Any:
    torch.manual_seed(1)
    model = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear", r=2))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.1)
    return model.eval()


def _prompt(base: Any) -> Any:
    torch.manual_seed(1)
    model = get_peft_model(base, PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)).eval()
    install_virtual_tokens(model)
    return model


@pytest.mark.parametrize("adapt", [_lora, _prompt, laddered])
def test_adapters_count(adapt):
    expected = [by_plain_transformers(adapt(tiny_model("llama")), row) for row in ROWS]
    base = [by_plain_transformers(tiny_model("llama"), row) for row in ROWS]
    found = scorer(adapt(tiny_model("llama"))).rows(ROWS)
    for ours, theirs, without in zip(found, expected, base, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-5)
        assert abs(ours - without).max() > 1e-3


@pytest.fixture(scope="module")
def ways() -> list[Scorer]:
    return [scorer(tiny_model("llama"), packing=packing) for packing in (True, False)]


@settings(deadline=None, max_examples=15)
@given(
    lengths=st.lists(st.integers(2, 30), min_size=1, max_size=7),
    max_tokens=st.integers(1, 200),
    seed=st.integers(0, 99),
    packed=st.booleans(),
)
def test_batches_and_padding_change_nothing(ways, lengths, max_tokens, seed, packed):
    rows = random_rows(lengths, seed=seed)
    alone = [ways[0].rows([row])[0] for row in rows]
    way = ways[0 if packed else 1]
    together = Scorer(way.model, way.tokenizer, "fp32", way.packed, way.shared, max_tokens).rows(rows)
    for ours, single in zip(together, alone, strict=True):
        np.testing.assert_allclose(ours, single, atol=2e-5)


def test_the_same_row_twice_and_none_at_all(ways):
    first, second = ways[0].rows([ROWS[0], ROWS[0]])
    np.testing.assert_array_equal(first, second)
    assert ways[0].rows([]) == [] and ways[0].branches([]) == []


def test_progress_counts_every_row_and_branch(ways):
    counted: list[int] = []
    ways[0].rows(ROWS, counted.append)
    assert sum(counted) == len(ROWS)
    counted.clear()
    ways[0].branches(TREES, counted.append)
    assert sum(counted) == 8
