"""New models: sizes by name, what the tokenizer decides, configurations of any family."""

from __future__ import annotations

import pytest
from helpers.pretraining_tokenizers import byte_level_bpe_tokenizer, unigram_tokenizer, wordpiece_tokenizer

from hf_align.errors import UserError
from hf_align.pretraining.collators import OBJECTIVES
from hf_align.pretraining.model_size import model_facts
from hf_align.pretraining.new_model import make_config, new_model
from hf_align.pretraining.recipe import OWN_OBJECTIVE, PretrainModelConfig

TOKENIZERS = {"t5": unigram_tokenizer, "bert": wordpiece_tokenizer, "spanbert": wordpiece_tokenizer}


def made(architecture=None, **options):
    tokenizer = TOKENIZERS.get(architecture, byte_level_bpe_tokenizer)()
    config = PretrainModelConfig(architecture=architecture, tokenizer_name_or_path="x", **options)
    return make_config(config, tokenizer, positions=64), tokenizer


@pytest.mark.parametrize("architecture", OWN_OBJECTIVE)
def test_every_architecture_has_its_size_and_its_objective(architecture):
    config, tokenizer = made(architecture, model_size="mini")
    assert config.hidden_size == 256
    assert config.vocab_size == len(tokenizer)
    assert config.pad_token_id == tokenizer.pad_token_id
    model = new_model(config, OWN_OBJECTIVE[architecture])
    facts = model_facts(model, length=64, objective=OWN_OBJECTIVE[architecture])
    assert facts["kind"] == OBJECTIVES[OWN_OBJECTIVE[architecture]].architecture
    assert facts["layers"] == (8 if facts["kind"] == "encoder_decoder" else 4)
    # ALBERT shares its layers; the others are near the estimate, cross-attention on top.
    if architecture != "albert":
        assert 0.95 < facts["parameters"] / facts["estimated_parameters"] < 1.25


def test_the_decoder_begins_as_the_papers_have_it():
    bart, tokenizer = made("bart")
    assert bart.decoder_start_token_id == bart.forced_eos_token_id == tokenizer.eos_token_id
    t5, tokenizer = made("t5")
    assert t5.decoder_start_token_id == tokenizer.pad_token_id


def test_a_model_type_of_transformers_with_overrides():
    overrides = {"num_hidden_layers": 1, "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 48}
    config, tokenizer = made(config_name_or_path="qwen2", config_overrides=overrides)
    assert (config.model_type, config.num_hidden_layers, config.vocab_size) == ("qwen2", 1, len(tokenizer))


def test_a_configuration_from_a_folder(tmp_path):
    original, _ = made("qwen3")
    original.save_pretrained(tmp_path)
    config, _ = made(config_name_or_path=str(tmp_path), config_overrides={"num_hidden_layers": 3})
    assert (config.num_hidden_layers, config.hidden_size) == (3, 128)
    assert len(config.layer_types) == 3


def test_an_encoder_without_a_head_for_pairs_is_refused():
    config, _ = made("roberta")
    with pytest.raises(UserError, match="no head that classifies pairs"):
        new_model(config, "mlm_nsp")


def test_an_objective_of_another_kind_is_refused():
    config, _ = made("t5")
    with pytest.raises(UserError, match=r"no causal language model can be made|trains decoder models"):
        new_model(config, "causal")


def test_what_a_family_refuses_is_said():
    with pytest.raises(UserError, match="config_overrides"):
        new_model(made("bert", config_overrides={"num_hidden_layers": "two"})[0], "mlm")
