"""Scores of rows: in order, whatever the batches, and those of plain transformers on padded batches."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.reward_adapters import ROWS, base_with_pad_equal_to_eos, plain, save_reward_adapter, sequences
from helpers.tiny_checkpoint import save_tiny_checkpoint
from helpers.tiny_models import PACKABLE, UNPACKABLE, redraw
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

from hf_align.config import ModelConfig
from hf_align.errors import UserError
from hf_align.modeling.attention.packing_probe import enable_segment_attention, shares_prefixes
from hf_align.modeling.heads.reward import install_reward_head
from hf_align.modeling.pad_token import choose_pad_token
from hf_align.modeling.reward_model import load_reward_base
from hf_align.saved_models.reward_scoring import (
    RewardModel,
    load_reward_model,
    read_reference,
    score_rows,
    write_reference,
)
from hf_align.types import ComparisonRow, TokenizedRow

PAD = 96


class Padding:
    """What score_rows asks of a tokenizer."""

    pad_token_id = PAD


def classifier(family: str) -> Any:
    model_type, shape = (PACKABLE | UNPACKABLE)[family]
    torch.manual_seed(0)
    config = AutoConfig.for_model(model_type, **{**shape, "num_labels": 1, "pad_token_id": PAD})
    model = AutoModelForSequenceClassification.from_config(config, dtype=torch.float32).eval()
    redraw(model, 0.15)
    return model


@pytest.mark.parametrize(
    ("family", "sides"),
    [
        *((family, ("right", "left")) for family in ("llama", "qwen3", "gemma2", "gpt_neox", "phi", "bloom")),
        # Positions that are learned count from the first column, so that padding on the left moves them.
        ("gpt2", ("right",)),
    ],
)
def test_scores_are_those_of_transformers_on_padded_batches(family: str, sides: tuple[str, ...]) -> None:
    model = classifier(family)
    if family == "gemma2":
        model.set_attn_implementation("eager")
    expected = [plain(model, sequences(ROWS), side, PAD) for side in sides]
    packed = enable_segment_attention(model)
    shared = packed and shares_prefixes(model)
    assert packed == (family in PACKABLE)
    install_reward_head(model)
    for form in {(packed, shared), (packed, False), (False, False)}:
        scores = score_rows(RewardModel(model, Padding(), "fp32", *form), ROWS)  # type: ignore[arg-type]
        for one in expected:
            np.testing.assert_allclose(scores, one, rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def llama() -> RewardModel:
    model = classifier("llama")
    assert enable_segment_attention(model) and shares_prefixes(model)
    install_reward_head(model)
    return RewardModel(model, Padding(), "fp32", packed=True, shared=True)  # type: ignore[arg-type]


def test_an_answer_by_itself_scores_as_in_its_tree(llama: RewardModel) -> None:
    single = [row.sequence(k) for row in ROWS for k in range(len(row.branches))]
    np.testing.assert_allclose(score_rows(llama, single), score_rows(llama, ROWS), rtol=1e-4, atol=1e-5)
    mixed: list[ComparisonRow | TokenizedRow] = [single[0], ROWS[1], single[0]]
    found = score_rows(llama, mixed)
    assert len(found) == 6 and found[0] == pytest.approx(found[5])
    assert score_rows(llama, []).shape == (0,)


@settings(deadline=None, max_examples=15)
@given(st.permutations(range(len(ROWS))), st.integers(1, 120))
def test_neither_order_nor_budget_matters(llama: RewardModel, order: list[int], budget: int) -> None:
    whole = np.split(score_rows(llama, ROWS, max_tokens=10_000), [2, 6, 8])
    expected = np.concatenate([whole[i] for i in order])
    scores = score_rows(llama, [ROWS[i] for i in order], max_tokens=budget)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-5)


def save_reward_model(folder: Path, base: str) -> str:
    model = load_reward_base(ModelConfig(base), trainable_base=True, precision="fp32", use_cpu=True)
    tokenizer = AutoTokenizer.from_pretrained(base)
    choose_pad_token(tokenizer, model)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def test_loading_gives_the_scores_of_what_was_saved(tmp_path: Path) -> None:
    base = save_tiny_checkpoint(tmp_path / "base")
    folder = save_reward_model(tmp_path / "reward", base)
    loaded = load_reward_model(folder, dtype="float32", use_cpu=True)
    assert loaded.packed and loaded.shared and loaded.reference is None
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    pad = int(loaded.tokenizer.pad_token_id)
    scores = score_rows(loaded, ROWS)
    np.testing.assert_allclose(scores, plain(model, sequences(ROWS), "right", pad), rtol=1e-4, atol=1e-5)
    padded = load_reward_model(folder, dtype="float32", use_cpu=True, packing=False)
    assert not padded.packed
    np.testing.assert_allclose(score_rows(padded, ROWS), scores, rtol=1e-4, atol=1e-5)
    half = load_reward_model(folder, dtype="bfloat16", use_cpu=True)
    assert half.precision == "bf16" and half.model.score.weight.dtype == torch.float32
    np.testing.assert_allclose(score_rows(half, ROWS), scores, atol=0.1)


def test_the_reference_is_stored_beside_the_model(tmp_path: Path) -> None:
    folder = save_reward_model(tmp_path / "reward", save_tiny_checkpoint(tmp_path / "base"))
    before = json.loads((tmp_path / "reward" / "config.json").read_text())
    assert read_reference(folder) is None
    stored = {"mean": 0.25, "std": 1.5, "answers": 8, "source": "held-out answers"}
    write_reference(folder, stored)
    assert read_reference(folder) == stored
    assert json.loads((tmp_path / "reward" / "config.json").read_text()) == before | {
        "hf_align_reward": stored
    }
    assert AutoModelForSequenceClassification.from_pretrained(folder).config.hf_align_reward == stored
    assert load_reward_model(folder, use_cpu=True).reference == stored
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text(json.dumps({"reward_reference": stored}))
    write_reference(tmp_path / "run", {})
    assert not (tmp_path / "run" / "config.json").exists(), "an adapter has none"
    assert read_reference(tmp_path / "run") == stored


def test_what_holds_no_reward_model_is_refused(tmp_path: Path) -> None:
    base = save_tiny_checkpoint(tmp_path / "base")
    with pytest.raises(UserError, match="is no reward model: it has no head"):
        load_reward_model(base, use_cpu=True)
    with pytest.raises(UserError, match="does not exist"):
        load_reward_model(tmp_path / "nothing", use_cpu=True)


def test_an_adapter_of_a_language_model_is_refused(tmp_path: Path) -> None:
    from helpers.tiny_adapters import save_adapter

    adapter = save_adapter(tmp_path / "adapter", save_tiny_checkpoint(tmp_path / "base"))
    with pytest.raises(UserError, match=r"task_type is CAUSAL_LM; expected SEQ_CLS, the adapter of a reward"):
        load_reward_model(adapter, use_cpu=True)


def test_an_adapter_reloads_with_a_pad_token_that_was_added_to_the_vocabulary(tmp_path: Path) -> None:
    base = base_with_pad_equal_to_eos(tmp_path / "base")
    adapted = save_reward_adapter(tmp_path / "adapter", base)
    rows = adapted.get_base_model().get_input_embeddings().weight.shape[0]
    loaded = load_reward_model(tmp_path / "adapter", dtype="float32", use_cpu=True)
    assert loaded.tokenizer.pad_token == "<|pad|>" and loaded.tokenizer.pad_token_id == rows - 1
    pad = int(loaded.tokenizer.pad_token_id)
    expected = plain(adapted.eval(), sequences(ROWS), "right", pad)
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(score_rows(loaded, ROWS), expected, rtol=1e-4, atol=1e-5)


def test_an_adapter_without_its_head_is_refused(tmp_path: Path) -> None:
    save_reward_adapter(tmp_path / "adapter", save_tiny_checkpoint(tmp_path / "base"), head=False)
    with pytest.raises(UserError, match=r"file lacks 'base_model\.model\.score\.weight'"):
        load_reward_model(tmp_path / "adapter", use_cpu=True)
