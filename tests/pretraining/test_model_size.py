"""Parameters and their estimate, by hand."""

from __future__ import annotations

from helpers.pretraining_tokenizers import byte_level_bpe_tokenizer, unigram_tokenizer, wordpiece_tokenizer

from hf_align.pretraining.model_size import model_facts
from hf_align.pretraining.new_model import make_config, new_model
from hf_align.pretraining.recipe import PretrainModelConfig

TOKENIZERS = {"t5": unigram_tokenizer, "bert": wordpiece_tokenizer, "spanbert": wordpiece_tokenizer}


def made(architecture=None, **options):
    tokenizer = TOKENIZERS.get(architecture, byte_level_bpe_tokenizer)()
    config = PretrainModelConfig(architecture=architecture, tokenizer_name_or_path="x", **options)
    return make_config(config, tokenizer, positions=64), tokenizer


def test_parameters_and_estimate_of_a_tiny_gpt_by_hand():
    config, tokenizer = made("gpt2")
    facts = model_facts(new_model(config, "causal"), length=64, objective="causal")
    vocabulary, width = len(tokenizer), 128
    layer = 12 * width**2 + 13 * width  # four matrices of attention, two of the network, biases, two norms
    assert facts["parameters"] == vocabulary * width + 64 * width + 2 * layer + 2 * width
    assert facts["estimated_parameters"] == vocabulary * width + 12 * 2 * width**2
    assert facts["training_flops_by_position"] == 6 * facts["parameters"] + 12 * 2 * width * 64
