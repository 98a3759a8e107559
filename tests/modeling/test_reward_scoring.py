"""Scores of rows: in order, whatever the batches, and those of plain transformers on padded batches."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.comparisons import random_comparison
from helpers.tiny_checkpoint import save_tiny_checkpoint, tiny_tokenizer
from helpers.tiny_models import PACKABLE, UNPACKABLE
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

from hf_align.config import ModelConfig
from hf_align.errors import UserError
from hf_align.modeling.packing_probe import enable_segment_attention, shares_prefixes
from hf_align.modeling.pad_token import choose_pad_token
from hf_align.modeling.reward_head import install_reward_head
from hf_align.modeling.reward_model import load_reward_base
from hf_align.modeling.reward_saving import save_merged
from hf_align.modeling.reward_scoring import (
    RewardModel,
    load_reward_model,
    read_reference,
    score_rows,
    write_reference,
)
from hf_align.types import ComparisonRow, TokenizedRow

PAD = 96
ROWS = [
    random_comparison(11, (7, 4), seed=1),
    random_comparison(2, (3, 9, 5, 8), seed=2),
    random_comparison(0, (6, 5), seed=3),
    random_comparison(17, (2, 2, 12), seed=4),
]


class Padding:
    """What score_rows asks of a tokenizer."""

    pad_token_id = PAD


def classifier(family: str) -> Any:
    model_type, shape = (PACKABLE | UNPACKABLE)[family]
    torch.manual_seed(0)
    config = AutoConfig.for_model(model_type, **{**shape, "num_labels": 1, "pad_token_id": PAD})
    model = AutoModelForSequenceClassification.from_config(config, dtype=torch.float32).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0.0, 0.15)
    return model


def sequences(rows: list[ComparisonRow]) -> list[list[int]]:
    return [row.sequence(k).input_ids.tolist() for row in rows for k in range(len(row.branches))]


def plain(model: Any, ids: list[list[int]], side: str, pad: int) -> np.ndarray:
    """Scores by transformers alone, in one padded batch."""
    width = max(map(len, ids))
    fill = [[pad] * (width - len(row)) for row in ids]
    padded = [f + row if side == "left" else row + f for f, row in zip(fill, ids, strict=True)]
    gaps = [[0] * len(f) for f in fill]
    real = [[1] * len(row) for row in ids]
    mask = [g + r if side == "left" else r + g for g, r in zip(gaps, real, strict=True)]
    with torch.no_grad():
        output = model(input_ids=torch.tensor(padded), attention_mask=torch.tensor(mask))
    return output.logits[:, 0].numpy()


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


def save_reward_adapter(folder: Path, base: str, *, head: bool = True) -> Any:
    """A LoRA reward model with random weights, of a base whose tokenizer needed a new pad token."""
    from peft import LoraConfig, get_peft_model

    model = load_reward_base(ModelConfig(base), trainable_base=False, precision="fp32", use_cpu=True)
    tokenizer = AutoTokenizer.from_pretrained(base)
    choose_pad_token(tokenizer, model)
    torch.manual_seed(5)
    adapted = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear", task_type="SEQ_CLS"))
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    adapted.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    if not head:
        from safetensors.torch import load_file, save_file

        weights = {
            k: v for k, v in load_file(folder / "adapter_model.safetensors").items() if "score" not in k
        }
        save_file(weights, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    return adapted


def base_with_pad_equal_to_eos(folder: Path) -> str:
    save_tiny_checkpoint(folder)
    tokenizer = tiny_tokenizer()
    tokenizer.pad_token = tokenizer.eos_token
    tokenizer.chat_template += "<|endoftext|>"
    tokenizer.save_pretrained(folder)
    return str(folder)


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


def test_a_merged_model_is_plain_and_gives_the_scores_of_the_adapter(tmp_path: Path) -> None:
    base = base_with_pad_equal_to_eos(tmp_path / "base")
    adapted = save_reward_adapter(tmp_path / "merged" / "adapter", base)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "merged" / "adapter")
    difference = save_merged(
        tmp_path / "merged",
        tmp_path / "merged" / "adapter",
        ModelConfig(base),
        tokenizer,
        ROWS[:2],
        precision="fp32",
    )
    assert difference < 1e-3
    model, report = AutoModelForSequenceClassification.from_pretrained(
        tmp_path / "merged", output_loading_info=True
    )
    assert not any(report.values())
    assert model.dtype == torch.float32
    pad = int(tokenizer.pad_token_id)
    for side in ("left", "right"):
        np.testing.assert_allclose(
            plain(model, sequences(ROWS), side, pad),
            plain(adapted.eval(), sequences(ROWS), "right", pad),
            rtol=1e-4,
            atol=1e-5,
        )


def test_a_merge_that_changes_scores_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hf_align.modeling import reward_saving

    def without_the_adapter(model: Any) -> Any:
        return model.unload()

    base = save_tiny_checkpoint(tmp_path / "base")
    save_reward_adapter(tmp_path / "adapter", base)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "adapter")
    monkeypatch.setattr(reward_saving, "merge", without_the_adapter)
    with pytest.raises(UserError, match=r"gives other scores than the adapter on its .*save_merged: false"):
        save_merged(
            tmp_path / "merged", tmp_path / "adapter", ModelConfig(base), tokenizer, ROWS, precision="fp32"
        )
    assert not [*(tmp_path / "merged").glob("*.safetensors"), *(tmp_path / "merged").glob("config.json")]


def test_an_adapter_without_its_head_is_refused(tmp_path: Path) -> None:
    save_reward_adapter(tmp_path / "adapter", save_tiny_checkpoint(tmp_path / "base"), head=False)
    with pytest.raises(UserError, match=r"file lacks 'base_model\.model\.score\.weight'"):
        load_reward_model(tmp_path / "adapter", use_cpu=True)
