"""Dropout off: a forward pass in training equals one in evaluation, for every family."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

from hf_align.modeling.dropout import disable_dropout
from hf_align.training.resume import parts_that_draw_random_numbers

SMALL = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
GPT = {"vocab_size": 64, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
DECODERS = {
    "llama": {**SMALL, "intermediate_size": 48, "attention_dropout": 0.4},
    "gpt2": {**GPT, "attn_pdrop": 0.4, "resid_pdrop": 0.4, "embd_pdrop": 0.4},
    # These read their configuration in each forward pass.
    "gptj": {**GPT, "rotary_dim": 4, "attn_pdrop": 0.4, "resid_pdrop": 0.4},
    "falcon": {**SMALL, "hidden_dropout": 0.4, "attention_dropout": 0.4},
    "gpt_neo": {
        "vocab_size": 64,
        "hidden_size": 32,
        "num_layers": 2,
        "num_heads": 4,
        "attention_types": [[["global"], 2]],
        "max_position_embeddings": 64,
        "attention_dropout": 0.4,
        "resid_dropout": 0.4,
    },
    "opt": {**SMALL, "ffn_dim": 48, "dropout": 0.4, "attention_dropout": 0.4, "word_embed_proj_dim": 32},
}
ENCODERS = {
    "bert": {
        **SMALL,
        "intermediate_size": 48,
        "hidden_dropout_prob": 0.4,
        "attention_probs_dropout_prob": 0.4,
    },
    "deberta-v2": {
        **SMALL,
        "intermediate_size": 48,
        "hidden_dropout_prob": 0.4,
        "attention_probs_dropout_prob": 0.4,
    },
}


@pytest.mark.parametrize("family", [*DECODERS, *ENCODERS])
def test_training_equals_evaluation_without_dropout(family: str) -> None:
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, **(DECODERS | ENCODERS)[family])
    build = AutoModelForCausalLM if family in DECODERS else AutoModelForSequenceClassification
    model = build.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.0, 0.3)
    ids = torch.arange(3, 19).unsqueeze(0)
    model.train()
    assert not torch.equal(model(input_ids=ids).logits, model(input_ids=ids).logits), "there is dropout"
    found = disable_dropout(model)
    assert max(found.values()) == pytest.approx(0.4)
    trained = model(input_ids=ids).logits
    torch.testing.assert_close(trained, model.eval()(input_ids=ids).logits, rtol=0, atol=1e-5)
    assert parts_that_draw_random_numbers(model) == []
    assert disable_dropout(model) == {}, "nothing is left"


def test_what_is_not_dropout_is_left_alone() -> None:
    config = AutoConfig.for_model("llama", **SMALL, intermediate_size=48, initializer_range=0.5)
    model = AutoModelForCausalLM.from_config(config)
    before = config.to_dict()
    assert disable_dropout(model) == {}
    assert model.config.to_dict() == before


def test_an_adapter_put_on_afterwards_keeps_its_dropout() -> None:
    from peft import LoraConfig, get_peft_model

    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("gpt2", **GPT))
    disable_dropout(model)
    adapted = get_peft_model(model, LoraConfig(lora_dropout=0.3, target_modules="all-linear"))
    assert parts_that_draw_random_numbers(adapted) == ["lora_dropout"]
