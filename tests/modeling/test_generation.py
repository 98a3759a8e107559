"""Text in pieces: together exactly the whole, never half a character; and which tokens end an answer."""

from __future__ import annotations

import pytest
import torch
from helpers.tiny_checkpoint import save_tiny_checkpoint, tiny_tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, LlamaTokenizerFast

from hf_align.modeling.generation import Sampling, TextPieces, context_length, stream_answer
from hf_align.modeling.stopping import end_of_turn_id, stop_token_ids

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


def test_context_length(model):
    assert context_length(model, BYTE_LEVEL) == 256
