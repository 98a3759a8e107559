"""Conversations: every turn is what generate gives, and only what is new is read."""

from __future__ import annotations

from dataclasses import replace

import pytest
from helpers.greedy_answers import generated, greedy
from helpers.tiny_checkpoint import save_tiny_checkpoint, tiny_tokenizer
from helpers.tiny_models import tiny_model
from transformers import AutoModelForCausalLM

from hf_align.sampling.answers import Answer
from hf_align.sampling.options import Sampling
from hf_align.sampling.streaming import Memory
from hf_align.saved_models import conversation

BYTE_LEVEL = tiny_tokenizer()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = save_tiny_checkpoint(tmp_path_factory.mktemp("model"), initializer_range=0.15)
    return AutoModelForCausalLM.from_pretrained(folder).eval()


def test_a_conversation_keeps_all_of_the_sampling(model, monkeypatch):
    seen = []

    def answered(model, tokenizer, ids, sampling, **_):
        seen.append(sampling)
        return Answer("yes", True, 2)

    monkeypatch.setattr(conversation, "stream_answer", answered)
    wanted = Sampling(max_new_tokens=300, temperature=0.7, top_p=0.9, top_k=5)
    talk = conversation.Conversation(model, BYTE_LEVEL, wanted)
    talk.ask("Hello", lambda text: None)
    assert seen[0].max_new_tokens < 256
    assert replace(seen[0], max_new_tokens=300) == wanted


def test_a_system_prompt_that_was_folded_in_training_is_again(model, monkeypatch):
    seen = []

    def answered(model, tokenizer, ids, sampling, **_):
        seen.append(tokenizer.decode(ids))
        return Answer("yes", True, 2)

    monkeypatch.setattr(conversation, "stream_answer", answered)
    talk = conversation.Conversation(model, BYTE_LEVEL, Sampling(), system="Be brief.", fold=True)
    talk.ask("Hello", lambda text: None)
    talk.ask("Again", lambda text: None)
    assert all("<|im_start|>user\nBe brief.\n\nHello<|im_end|>" in text for text in seen)
    assert "<|im_start|>user\nAgain<|im_end|>" in seen[1] and talk.messages[0]["content"] == "Hello"


@pytest.mark.parametrize(
    ("family", "remembers"),
    [("llama", True), ("gpt2", True), ("bloom", True), ("mistral", False), ("mamba", False)],
)
def test_turns_are_those_of_generate_and_read_only_what_is_new(family, remembers):
    """The second prompt goes on from the first answer, the third differs in its fourth token."""
    model = tiny_model(family)
    if family == "mistral":
        model.set_attn_implementation("eager")
    widths: list[int] = []
    model.register_forward_pre_hook(
        lambda _, args, kwargs: widths.append(kwargs["input_ids"].shape[1]), with_kwargs=True
    )
    memory = Memory()
    first = [5, 6, 7, 8, 9, 10]
    answer = greedy(model, first, memory=memory)
    assert answer == generated(model, first)
    second = [*first, *answer, 11, 12]
    third = [5, 6, 7, 20, *second[4:]]
    for prompt, new in ((second, 3), (third, len(third) - 3), (third[:5], 1)):
        widths.clear()
        got = greedy(model, prompt, memory=memory)
        assert widths[0] == (new if remembers else len(prompt))
        assert got == generated(model, prompt)
