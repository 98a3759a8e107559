"""Extended vocabularies: old text keeps its ids, new tokens are reached, everything comes back."""

from __future__ import annotations

import json

import pytest
from helpers.chat_tokenizers import byte_level_tokenizer, sentencepiece_tokenizer
from helpers.tiny_corpus import CHINESE, ENGLISH
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from hf_align.errors import UserError
from hf_align.tokenization.alphabet import byte_values
from hf_align.tokenization.extend import extend_tokenizer
from hf_align.tokenization.recipe import ExtendOptions, TokenizerOptions
from hf_align.tokenization.train import train_tokenizer

TYPES = ("bpe", "byte_level_bpe", "wordpiece", "unigram")


def _base(kind):
    few = {"extra_ids": 10} if kind == "unigram" else {}
    options = TokenizerOptions(tokenizer_type=kind, vocab_size=500, **few)
    return train_tokenizer(lambda: ENGLISH, options, show_progress=False)


def _extend(base, texts=CHINESE, **options):
    options = ExtendOptions(extend="base", **{"new_tokens": 150} | options)
    return extend_tokenizer(base, lambda: texts, options, show_progress=False)


@pytest.fixture(scope="module")
def bases():
    others = {"bytes of Llama 3": byte_level_tokenizer(bos=True), "Llama 2": sentencepiece_tokenizer()}
    return {kind: _base(kind) for kind in TYPES} | others


@pytest.fixture(scope="module")
def extended(bases):
    return {kind: _extend(base) for kind, base in bases.items()}


ALL = (*TYPES, "bytes of Llama 3", "Llama 2")


@pytest.mark.parametrize("kind", ALL)
def test_text_without_the_new_language_keeps_its_ids(bases, extended, kind):
    for text in [*ENGLISH, "def f(x):\n\treturn  x*2 # ok", "<|endoftext|> [MASK] <extra_id_1>"]:
        assert extended[kind].tokenizer(text).input_ids == bases[kind](text).input_ids


@settings(deadline=None, max_examples=150)
@given(text=st.text(alphabet=st.characters(max_codepoint=127)), kind=st.sampled_from(ALL))
def test_any_ascii_text_keeps_its_ids(bases, extended, text, kind):
    assert extended[kind].tokenizer(text).input_ids == bases[kind](text).input_ids


@settings(deadline=None, max_examples=150)
@given(
    text=st.text(
        alphabet=st.one_of(st.characters(exclude_categories=["Cs"]), st.sampled_from("".join(CHINESE)))
    ),
    kind=st.sampled_from(("byte_level_bpe", "bytes of Llama 3")),
)
def test_every_text_comes_back_from_bytes(extended, text, kind):
    tokenizer = extended[kind].tokenizer
    ids = tokenizer(text, add_special_tokens=False).input_ids
    assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == text


@pytest.mark.parametrize("kind", ALL)
def test_new_tokens_stand_behind_the_old_ones_and_are_used(bases, extended, kind):
    base, extension = bases[kind], extended[kind]
    assert extension.first_id == len(base)
    assert len(extension.tokenizer) == len(base) + len(extension.tokens)
    assert 0 < len(extension.tokens) <= 150
    old, new = (
        sum(len(tokenizer(text, add_special_tokens=False).input_ids) for text in CHINESE)
        for tokenizer in (base, extension.tokenizer)
    )
    unknown = [
        sum(tokenizer(text).input_ids.count(tokenizer.unk_token_id) for text in CHINESE)
        for tokenizer in (base, extension.tokenizer)
    ]
    # Fewer tokens, or as many that know more: one unknown token may stand for many characters.
    assert new < old or unknown[1] < unknown[0]
    assert kind not in ("byte_level_bpe", "bytes of Llama 3", "Llama 2", "bpe") or new < 0.75 * old
    used = {token for text in CHINESE for token in extension.tokenizer(text).tokens()}
    # A merge may be there only on the way to a longer token.
    state = json.loads(extension.tokenizer.backend_tokenizer.to_str())
    for left, right in reversed(state["model"].get("merges", [])):
        used |= {left, right} if left + right in used else set()
    idle = [token.token for token in extension.tokens if token.token not in used]
    assert len(idle) <= 0.05 * len(extension.tokens), idle


@pytest.mark.parametrize("kind", ["byte_level_bpe", "bytes of Llama 3"])
def test_pieces_are_what_the_token_was_written_with(bases, extended, kind):
    base, extension = bases[kind], extended[kind]
    for place, token in enumerate(extension.tokens):
        assert all(piece < extension.first_id for piece in token.pieces) and len(token.pieces) > 1
        assert base.decode(list(token.pieces)) == extension.tokenizer.decode([extension.first_id + place])


def test_characters_that_were_bytes_have_these_as_their_pieces(bases, extended):
    """Llama 2 writes a character without a token as its bytes: <0xE9> <0xBC> <0xA0>."""
    base = bases["Llama 2"]
    found = 0
    for token in extended["Llama 2"].tokens:
        if len(token.token) == 1:
            expected = [f"<0x{byte:02X}>" for byte in token.token.encode()]
            assert base.convert_ids_to_tokens(list(token.pieces)) == expected
            found += 1
    assert found > 20


@pytest.mark.parametrize("kind", ALL)
def test_the_same_tokens_on_another_run_and_after_saving(bases, extended, kind, tmp_path):
    again = _extend(bases[kind])
    assert again.tokens == extended[kind].tokens
    again.tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    for text in [*CHINESE, *ENGLISH[:20], "naïve 三箱"]:
        assert loaded(text).input_ids == extended[kind].tokenizer(text).input_ids


def test_letters_that_stand_for_bytes_come_back():
    # As an added token "über" would be decoded to the bytes FC 62 65 72, which is no text.
    words = ["über größere Straßen", "die naïve Lösung", "über Größe"] * 5
    extension = _extend(_base("byte_level_bpe"), words)
    assert extension.tokenizer.convert_ids_to_tokens(
        extension.tokenizer(" über", add_special_tokens=False).input_ids
    )[-1].endswith("Ã¼ber")
    for text in [*words, "Züberall", "überüber"]:
        assert extension.tokenizer.decode(extension.tokenizer(text).input_ids) == text


def _wrapped(model):
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def _hand_base():
    return _wrapped(models.BPE({"a": 0, "b": 1, "c": 2, "ab": 3}, [("a", "b")]))


def test_all_learns_from_ascii_text_too():
    texts = ["transmogrification of transmogrifications"] * 3
    base = _base("byte_level_bpe")
    with pytest.raises(UserError, match="no token of other than ASCII characters to add"):
        _extend(base, texts)
    extension = _extend(base, texts, new_tokens_from="all")
    assert "transmogrificat" in " ".join(token.token for token in extension.tokens)
    assert max(len(token.token.replace("Ġ", " ")) for token in extension.tokens) <= 16


def test_other_models_are_refused():
    with pytest.raises(UserError, match="of the kind WordLevel, which cannot be extended"):
        _extend(_wrapped(models.WordLevel({"a": 0, "<unk>": 1}, "<unk>")))


def test_the_table_of_bytes_is_that_of_the_library():
    table = byte_values()
    assert set(table) == set(pre_tokenizers.ByteLevel.alphabet()) and sorted(table.values()) == list(
        range(256)
    )
    split = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    for text in ["a é\n", "今🙂"]:
        letters = split.pre_tokenize_str(text)[0][0]
        assert bytes(table[letter] for letter in letters) == text.encode()
