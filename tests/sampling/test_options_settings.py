"""The context of a model, and settings of its own that are not followed."""

from __future__ import annotations

import pytest
from helpers.tiny_checkpoint import save_tiny_checkpoint, tiny_tokenizer
from helpers.tiny_models import tiny_model
from transformers import AutoModelForCausalLM

from hf_align.sampling.options import context_length, settings_not_followed

BYTE_LEVEL = tiny_tokenizer()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = save_tiny_checkpoint(tmp_path_factory.mktemp("model"), initializer_range=0.15)
    return AutoModelForCausalLM.from_pretrained(folder).eval()


def test_context_length(model):
    assert context_length(model, BYTE_LEVEL) == 256


def test_settings_of_the_model_that_are_not_followed_are_named():
    model = tiny_model("llama")
    assert settings_not_followed(model) == {}
    model.generation_config.repetition_penalty = 1.05
    model.generation_config.temperature = 0.6
    assert settings_not_followed(model) == {"repetition_penalty": 1.05}
