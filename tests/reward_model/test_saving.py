"""A merged reward model is plain, gives the adapter's scores, or is not kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.reward_adapters import ROWS, base_with_pad_equal_to_eos, plain, save_reward_adapter, sequences
from helpers.tiny_checkpoint import save_tiny_checkpoint
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from hf_align.config import ModelConfig
from hf_align.errors import UserError
from hf_align.reward_model.saving import save_merged


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
    from hf_align.saved_models import trained_heads

    def without_the_adapter(model: Any) -> Any:
        return model.unload()

    base = save_tiny_checkpoint(tmp_path / "base")
    save_reward_adapter(tmp_path / "adapter", base)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "adapter")
    monkeypatch.setattr(trained_heads, "merge", without_the_adapter)
    with pytest.raises(UserError, match=r"gives other scores than the adapter on its .*save_merged: false"):
        save_merged(
            tmp_path / "merged", tmp_path / "adapter", ModelConfig(base), tokenizer, ROWS, precision="fp32"
        )
    assert not [*(tmp_path / "merged").glob("*.safetensors"), *(tmp_path / "merged").glob("config.json")]
