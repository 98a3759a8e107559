"""Text in pieces: together exactly the whole, never half a character; and which tokens end an answer."""

from __future__ import annotations

import pytest
import torch
from helpers.greedy_answers import by_whole_passes, greedy
from helpers.tiny_checkpoint import save_tiny_checkpoint, tiny_tokenizer
from helpers.tiny_models import tiny_model
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, PrefixTuningConfig, PromptTuningConfig, get_peft_model
from transformers import AutoModelForCausalLM, LlamaTokenizerFast

from hf_align.modeling.virtual_tokens import install_virtual_tokens
from hf_align.sampling.options import Sampling
from hf_align.sampling.streaming import Memory, TextPieces, stream_answer, stream_tokens

BYTE_LEVEL = tiny_tokenizer()


def metaspace_tokenizer():
    """SentencePiece style: a space belongs to the word after it, and decoding drops the first one."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    pieces = [
        "<unk>",
        "▁",
        *"abcdefghijklmnop",
        *(f"<0x{byte:02X}>" for byte in range(256)),
        "▁a",
        "▁b",
        "\n",
    ]
    model = models.BPE(
        {piece: i for i, piece in enumerate(pieces)},
        [("▁", "a"), ("▁", "b")],
        unk_token="<unk>",
        byte_fallback=True,
    )
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return LlamaTokenizerFast(tokenizer_object=tokenizer)


METASPACE = metaspace_tokenizer()


@pytest.mark.parametrize("tokenizer", [BYTE_LEVEL, METASPACE], ids=["byte level", "metaspace"])
@settings(deadline=None, max_examples=60)
@given(text=st.text(alphabet=st.sampled_from("ab c\n  你好🙂é"), max_size=40))
def test_pieces_together_are_the_whole_text(tokenizer, text):
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    pieces = TextPieces(tokenizer)
    shown = [pieces.push(token) for token in ids]
    assert all("\ufffd" not in piece for piece in shown)
    assert "".join(shown) + pieces.flush() == tokenizer.decode(ids, skip_special_tokens=True)


def test_text_comes_as_soon_as_it_is_final():
    ids = BYTE_LEVEL("a🙂b", add_special_tokens=False)["input_ids"]
    pieces = TextPieces(BYTE_LEVEL)
    assert [pieces.push(token) for token in ids] == ["a", "", "", "", "🙂", "b"]


def test_half_a_character_at_the_end_is_shown_when_the_answer_ends():
    ids = BYTE_LEVEL("a🙂", add_special_tokens=False)["input_ids"][:-1]
    pieces = TextPieces(BYTE_LEVEL)
    shown = "".join(pieces.push(token) for token in ids)
    assert shown == "a" and pieces.flush() == BYTE_LEVEL.decode(ids)[1:] != ""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = save_tiny_checkpoint(tmp_path_factory.mktemp("model"), initializer_range=0.15)
    return AutoModelForCausalLM.from_pretrained(folder).eval()


def test_an_interruption_ends_the_answer_with_what_was_said(model):
    said = []

    def listen(text):
        said.append(text)
        if len(said) == 3:
            raise KeyboardInterrupt

    answer = stream_answer(
        model, BYTE_LEVEL, [70, 71, 72], Sampling(max_new_tokens=50), stop_ids=[], on_text=listen
    )
    assert answer.interrupted and not answer.stopped
    assert answer.text.startswith("".join(said[:3])) and answer.tokens < 50


def test_stopping_at_a_stop_token(model):
    """The second token that greedy decoding finds is declared to be the end."""
    prompt = [70, 71, 72]
    chosen = []
    ids = list(prompt)
    with torch.no_grad():
        for _ in range(3):
            ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
            chosen.append(ids[-1])
    assert chosen[1] != chosen[0]
    answer = stream_answer(
        model, BYTE_LEVEL, prompt, Sampling(max_new_tokens=9), stop_ids=[chosen[1]], on_text=lambda _: None
    )
    assert answer.stopped and answer.tokens == 2
    assert answer.text == BYTE_LEVEL.decode(chosen[:1], skip_special_tokens=True)


@pytest.mark.parametrize("kind", [PromptTuningConfig, PrefixTuningConfig, LoraConfig])
def test_a_model_with_an_adapter_streams_the_tokens_of_whole_passes(kind):
    options = {} if kind is LoraConfig else {"num_virtual_tokens": 3}
    torch.manual_seed(1)
    model = get_peft_model(tiny_model("llama"), kind(task_type="CAUSAL_LM", **options)).eval()
    install_virtual_tokens(model)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.normal_(0.0, 0.5)
    memory = Memory()
    for prompt in ([5, 6, 7, 8], [5, 6, 9, 10, 11], [12, 13]):
        assert greedy(model, prompt, memory=memory) == by_whole_passes(model, prompt)


def test_an_answer_that_was_not_taken_to_its_end_is_not_remembered():
    model, memory = tiny_model("llama"), Memory()
    greedy(model, [5, 6, 7], memory=memory)
    assert memory.ids[:3] == [5, 6, 7]
    tokens = stream_tokens(model, [5, 6, 7, 8], Sampling(max_new_tokens=9), stop_ids=[], memory=memory)
    next(tokens)
    tokens.close()
    assert memory.ids == [] and memory.cache is None
