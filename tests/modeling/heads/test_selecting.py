"""Log-probabilities of targets alone, equal to those of the model's own forward."""

from __future__ import annotations

import pytest
import torch
from helpers.tiny_ladders import tiny_seq2seq
from helpers.tiny_models import redraw
from transformers import AutoConfig, AutoModel, AutoModelForPreTraining

from hf_align.errors import UserError
from hf_align.modeling.heads.selecting import classifies_pairs, install_selecting_head

LABELS = torch.tensor([[5, 6, -100, 7], [8, -100, -100, -100]])


@pytest.mark.parametrize("kind", ["t5", "bart"])
@torch.no_grad()
def test_targets_of_a_decoder(kind: str) -> None:
    model, ids = tiny_seq2seq(kind), torch.arange(3, 13).view(2, 5)
    logits = model(input_ids=ids, labels=LABELS).logits
    counted = LABELS != -100
    expected = logits[counted].log_softmax(-1).gather(1, LABELS[counted][:, None])[:, 0]
    install_selecting_head(model)
    output = model(input_ids=ids, shift_labels=LABELS)
    torch.testing.assert_close(output.logps, expected)
    assert torch.equal(output.correct, logits[counted].argmax(-1) == LABELS[counted])
    assert output.pair_logits is None and not classifies_pairs(model)


@torch.no_grad()
def test_an_encoder_with_a_head_for_pairs() -> None:
    sizes = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = AutoConfig.for_model("bert", **sizes, intermediate_size=16)
    model = AutoModelForPreTraining.from_config(config, dtype=torch.float32).eval()
    redraw(model, 0.3)
    ids = torch.arange(3, 11).view(2, 4)
    plain = model(input_ids=ids)
    install_selecting_head(model)
    output = model(input_ids=ids, shift_labels=LABELS)
    torch.testing.assert_close(output.pair_logits, plain.seq_relationship_logits)
    counted = LABELS != -100
    expected = plain.prediction_logits[counted].log_softmax(-1).gather(1, LABELS[counted][:, None])[:, 0]
    torch.testing.assert_close(output.logps, expected)
    assert classifies_pairs(model) and torch.equal(model(input_ids=ids).prediction_logits, plain[0])


def test_a_model_without_a_head() -> None:
    sizes = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = AutoModel.from_config(AutoConfig.for_model("bert", **sizes, intermediate_size=16))
    with pytest.raises(UserError, match="has no language-model head"):
        install_selecting_head(model)
