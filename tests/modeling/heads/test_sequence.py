"""Logits of sequences at the tokens that a batch names, for models that read one and models that pool."""

from __future__ import annotations

import copy

import torch
from helpers.tiny_models import PACKABLE, redraw
from transformers import AutoConfig, AutoModelForSequenceClassification

from hf_align.modeling.heads.sequence import install_sequence_head, reads_last_token


def classifier(kind: str):
    sizes = {"vocab_size": 97, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    shape = PACKABLE["llama"][1] if kind == "llama" else {**sizes, "intermediate_size": 16}
    config = AutoConfig.for_model(kind, **{**shape, "num_labels": 3, "pad_token_id": 0})
    model = AutoModelForSequenceClassification.from_config(config, dtype=torch.float32).eval()
    redraw(model, 0.2)
    return model


@torch.no_grad()
def test_a_decoder_is_read_at_the_named_tokens() -> None:
    model, ids = classifier("llama"), torch.arange(3, 13).view(2, 5)
    assert reads_last_token(model)
    states = model.model(ids).last_hidden_state.flatten(0, 1)
    twin = copy.deepcopy(model)
    install_sequence_head(model)
    found = model(ids, last_tokens=torch.tensor([4, 7, 0])).logits
    torch.testing.assert_close(found, twin.score(states[[4, 7, 0]]))
    assert torch.equal(model(ids).logits, twin(ids).logits)


@torch.no_grad()
def test_an_encoder_keeps_its_own_pooling() -> None:
    model, ids = classifier("bert"), torch.arange(3, 13).view(2, 5)
    assert not reads_last_token(model)
    expected = model(ids).logits
    install_sequence_head(model)
    found = model(input_ids=ids, token_type_ids=None, last_tokens=torch.tensor([4, 9])).logits
    torch.testing.assert_close(found, expected)


@torch.no_grad()
def test_the_head_runs_in_its_own_type_and_a_copy_on_its_own_weights() -> None:
    model, ids = classifier("llama").bfloat16(), torch.arange(3, 13).view(2, 5)
    model.score.float()
    install_sequence_head(model)
    assert model(ids, last_tokens=torch.tensor([4])).logits.dtype == torch.float32
    twin = copy.deepcopy(model)
    twin.score.weight.zero_()
    assert not twin(ids, last_tokens=torch.tensor([4])).logits.any()
    assert model(ids, last_tokens=torch.tensor([4])).logits.any()
