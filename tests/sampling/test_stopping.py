"""Which tokens end an answer, also by what the chat template writes."""

from __future__ import annotations

import pytest
from helpers.tiny_checkpoint import save_tiny_checkpoint, tiny_tokenizer
from transformers import AutoModelForCausalLM

from hf_align.sampling.stopping import end_of_turn_id, stop_token_ids

BYTE_LEVEL = tiny_tokenizer()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = save_tiny_checkpoint(tmp_path_factory.mktemp("model"), initializer_range=0.15)
    return AutoModelForCausalLM.from_pretrained(folder).eval()


def test_the_end_of_turn_is_found_in_the_template(model):
    end = BYTE_LEVEL.convert_tokens_to_ids("<|im_end|>")
    assert end_of_turn_id(BYTE_LEVEL) == end
    other = tiny_tokenizer()
    other.eos_token = "<|endoftext|>"  # as in many base models: the template ends turns with another token
    assert stop_token_ids(model, other) == sorted({end, other.eos_token_id})
    other.chat_template = "{% for message in messages %}{{ message.content }}\n{% endfor %}"
    assert end_of_turn_id(other) is None
    other.chat_template = None
    assert end_of_turn_id(other) is None
