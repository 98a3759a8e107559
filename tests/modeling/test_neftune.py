from __future__ import annotations

import math

import pytest
import torch
from helpers.tiny_models import random_rows, tiny_model

from hf_align.data.packing import pack_rows, pad_rows
from hf_align.modeling.attention.packing_probe import enable_segment_attention
from hf_align.modeling.inputs import model_inputs
from hf_align.modeling.neftune import install_neftune

ROWS = random_rows([4, 64, 16])


def noise(batch, alpha: float) -> torch.Tensor:
    """What NEFTune adds to the embeddings of a batch, (B, T, d)."""
    model = tiny_model("llama").train()
    assert enable_segment_attention(model)
    embedding = model.get_input_embeddings()
    inputs = model_inputs(batch)
    clean = embedding(inputs["input_ids"])
    install_neftune(model, alpha)
    seen = []
    embedding.register_forward_hook(lambda _, __, output: seen.append(output))
    inputs.pop("shift_labels")
    model(**inputs)
    return (seen[0] - clean).detach()


@pytest.mark.parametrize("packed", [True, False])
def test_strength_follows_the_length_of_each_sequence(packed: bool) -> None:
    found = noise(pack_rows(ROWS) if packed else pad_rows(ROWS, 0), alpha=6.0)
    pieces = (
        found[0, :84].split([4, 64, 16]) if packed else [found[i, : len(row)] for i, row in enumerate(ROWS)]
    )
    for row, piece in zip(ROWS, pieces, strict=True):
        bound = 6.0 / math.sqrt(len(row) * 32)
        assert piece.abs().max() <= bound * 1.0001
        # Uniform on (-a, a): standard deviation a / sqrt(3); at least 128 draws here.
        assert piece.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.15)
        assert piece.mean().abs() < bound * 0.25


def test_evaluation_is_free_of_noise() -> None:
    model = tiny_model("llama")
    expected = model(input_ids=torch.arange(5, 15)[None]).logits
    install_neftune(model, 10.0)
    torch.testing.assert_close(model(input_ids=torch.arange(5, 15)[None]).logits, expected)
