from __future__ import annotations

import pytest
import torch
from helpers.tiny_models import random_rows, tiny_model

from hf_align.data.packing import pack_rows
from hf_align.modeling.attention.packing_probe import enable_segment_attention
from hf_align.modeling.heads.target import install_target_head
from hf_align.training.objectives.causal_lm import causal_lm

ROWS = random_rows([12, 7, 20])


def test_sums_equal_transformers_own_loss() -> None:
    model = tiny_model("llama")
    expected, correct = 0.0, 0
    for row in ROWS:
        ids = torch.tensor(row.input_ids, dtype=torch.long)[None]
        labels = ids.clone()
        labels[0, ~torch.from_numpy(row.target_mask)] = -100
        output = model(input_ids=ids, labels=labels)
        expected += output.loss.item() * row.target_tokens
        chosen = output.logits[0, :-1].argmax(-1)
        correct += int(((chosen == ids[0, 1:]) & torch.from_numpy(row.target_mask[1:])).sum())
    assert enable_segment_attention(model)
    install_target_head(model)
    result = causal_lm(model, pack_rows(ROWS))
    assert result.loss_sum.item() == pytest.approx(expected, rel=1e-5)
    assert result.count == sum(row.target_tokens for row in ROWS)
    assert result.metrics["correct"].item() == correct
