"""An adapter of a classifier in its base: a plain model with the logits that it had, or none."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.tiny_checkpoint import tiny_tokenizer
from helpers.tiny_classifiers import save_model
from transformers import AutoModelForSequenceClassification

from hf_align.adapters.factory import apply_adapter
from hf_align.classify import saving
from hf_align.classify.model import load_classifier_base
from hf_align.classify.saving import plain_logits, save_merged
from hf_align.config import AdapterConfig, ModelConfig
from hf_align.errors import UserError
from hf_align.modeling.pad_token import set_pad_token
from hf_align.modeling.reward_model import head_modules
from hf_align.types import LabelledRow

LABELS = ("a", "b", "c")
ROWS = [LabelledRow(np.arange(3, 3 + n, dtype=np.int32), np.zeros(n, bool), label=0) for n in (4, 7, 5)]


@pytest.fixture
def saved(tmp_path: Path) -> tuple[str, Path, Any, torch.Tensor]:
    """(base, folder of a moved adapter, tokenizer, its logits)."""
    base, tokenizer = save_model("llama", tmp_path / "base"), tiny_tokenizer()
    torch.manual_seed(0)
    model = load_classifier_base(
        ModelConfig(base), labels=LABELS, trainable_base=False, precision="fp32", use_cpu=True
    )
    set_pad_token(model, tokenizer.pad_token_id)
    add_adapter = partial(apply_adapter, task_type="SEQ_CLS", head=head_modules(model))
    adapted: Any = add_adapter(model, AdapterConfig(adapter="lora", lora_r=4))
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.normal_(0.0, 0.3)
    adapted.eval().save_pretrained(tmp_path / "adapter")
    return base, tmp_path / "adapter", tokenizer, plain_logits(adapted, ROWS, tokenizer.pad_token_id)


def merge(saved: Any, folder: Path) -> float:
    base, adapter, tokenizer, _ = saved
    return save_merged(folder, adapter, ModelConfig(base), tokenizer, ROWS, labels=LABELS, precision="fp32")


def test_the_merged_model_gives_the_adapters_logits(saved: Any, tmp_path: Path) -> None:
    assert merge(saved, tmp_path / "merged") < 1e-3
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "merged").eval()
    assert model.config.id2label == dict(enumerate(LABELS))
    found = plain_logits(model, ROWS, saved[2].pad_token_id)
    torch.testing.assert_close(found, saved[3], rtol=1e-4, atol=1e-4)
    alone = torch.cat([plain_logits(model, [row], 0) for row in ROWS])
    torch.testing.assert_close(found, alone, rtol=1e-4, atol=1e-5)


def test_one_that_gives_others_is_not_kept(
    saved: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose(model: Any, folder: Path, tokenizer: Any) -> None:
        model.unload().save_pretrained(folder)
        tokenizer.save_pretrained(folder)

    monkeypatch.setattr(saving, "write_merged", lose)
    with pytest.raises(UserError, match="the merged model gives other logits than the adapter"):
        merge(saved, tmp_path / "merged")
    assert not list((tmp_path / "merged").glob("*.safetensors"))
