"""Trained tokenizers: round trips, special tokens and templates, reloading, determinism, refusals."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
from helpers.tiny_corpus import CORPUS
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from hf_align.config import KeyProblem
from hf_align.errors import UserError
from hf_align.tokenization.recipe import FAMILY_OF_TYPE, TokenizerOptions, parse_tokenizer
from hf_align.tokenization.train import settled_pieces, train_tokenizer

KNOWN = "abcdefghijklmnopqrstuvwxyzABCDE,.苹果三é"
# A character is known at the start, in the middle and at the end of words only where it occurs there.
TEXTS = [*CORPUS, *(f"{character} {character * 3}" for character in KNOWN)]
ROOT = Path(__file__).parent.parent.parent
TYPES = ("bpe", "byte_level_bpe", "wordpiece", "unigram")
FAMILIES = ("bert", "roberta", "bart", "gpt", "t5")


def _train(kind="byte_level_bpe", texts=TEXTS, **options):
    few = {"extra_ids": 10} if options.get("special_tokens", FAMILY_OF_TYPE[kind]) == "t5" else {}
    options = {"vocab_size": 600} | few | options
    return train_tokenizer(
        lambda: texts, TokenizerOptions(tokenizer_type=kind, **options), show_progress=False
    )


@pytest.fixture(scope="module")
def trained():
    return {kind: _train(kind) for kind in TYPES}


def _ids(tokenizer, text):
    return tokenizer(text, add_special_tokens=False).input_ids


def _text(tokenizer, ids):
    return tokenizer.decode(ids, clean_up_tokenization_spaces=False)


@settings(deadline=None, max_examples=200)
@given(text=st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_byte_level_gives_every_text_back(trained, text):
    tokenizer = trained["byte_level_bpe"]
    assert _text(tokenizer, _ids(tokenizer, text)) == text
    assert tokenizer.unk_token is None


_KNOWN = st.text(alphabet=f"{KNOWN} \n\t")


@settings(deadline=None, max_examples=100)
@given(text=_KNOWN)
def test_bpe_and_unigram_give_words_of_their_alphabet_back(trained, text):
    once_spaced = " ".join(text.split())
    assert _text(trained["bpe"], _ids(trained["bpe"], text)) == once_spaced
    assert _text(trained["unigram"], _ids(trained["unigram"], text)) == unicodedata.normalize(
        "NFKC", once_spaced
    )


@settings(deadline=None, max_examples=100)
@given(text=_KNOWN)
def test_wordpiece_keeps_every_character_but_white_space(trained, text):
    tokenizer = trained["wordpiece"]
    assert "".join(_text(tokenizer, _ids(tokenizer, text)).split()) == "".join(text.split())


@pytest.mark.parametrize("kind", ["bpe", "wordpiece", "unigram"])
def test_other_characters_are_the_unknown_token(trained, kind):
    assert trained[kind].unk_token_id in _ids(trained[kind], "an 🙂 order")


def test_the_marks_of_words(trained):
    first, *_, last = trained["bpe"].tokenize("to delivery")
    assert first == "to</w>" and last.endswith("y</w>")
    assert trained["wordpiece"].tokenize("toz") == ["to", "##z"]
    assert trained["byte_level_bpe"].tokenize("to deliver") == ["to", "Ġdeliver"]
    assert trained["unigram"].tokenize("to deliver") == ["▁to", "▁deliver"]


def test_all_types_fill_the_vocabulary_that_was_asked_for(trained):
    assert [len(trained[kind]) for kind in TYPES] == [600] * 4


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_type_with_every_family_survives_saving(kind, family, tmp_path):
    tokenizer = _train(kind, special_tokens=family, model_max_length=77, additional_special_tokens=["<mine>"])
    tokenizer.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    for text in ["an order 苹果 <mine> x", "", "  two  spaces\n"]:
        assert again(text).input_ids == tokenizer(text).input_ids
        assert again(text, "a pair").data == tokenizer(text, "a pair").data
    assert again.special_tokens_map == tokenizer.special_tokens_map
    assert (again.model_max_length, again.padding_side) == (77, "left" if family == "gpt" else "right")
    assert len(again) == 600
    marked = again.convert_tokens_to_ids("<mine>")
    assert _ids(again, "an<mine>order").count(marked) == 1
    assert (
        marked not in again(again.decode(again("a <mine> b").input_ids, skip_special_tokens=True)).input_ids
    )


def test_bert_puts_cls_and_sep_around_a_pair_with_segment_ids():
    tokenizer = _train("wordpiece")
    assert tokenizer.convert_tokens_to_ids(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]) == [0, 1, 2, 3, 4]
    pair = tokenizer("an order", "crates")
    a, b = len(_ids(tokenizer, "an order")), len(_ids(tokenizer, "crates"))
    assert pair.tokens()[0] == "[CLS]" and pair.tokens()[-1] == "[SEP]" and pair.tokens()[a + 1] == "[SEP]"
    assert pair["token_type_ids"] == [0] * (a + 2) + [1] * (b + 1)
    batch = tokenizer(["an order", "crates"], padding=True)
    shorter = min(a, b)
    assert [row.count(0) for row in batch["input_ids"]] == [max(a, b) - a, max(a, b) - b]
    assert sum(batch["attention_mask"][0 if a == shorter else 1]) == shorter + 2


def test_roberta_and_bart_have_their_ids_and_a_mask_that_takes_the_space():
    for family in ("roberta", "bart"):
        tokenizer = _train(special_tokens=family)
        assert tokenizer.convert_tokens_to_ids(["<s>", "<pad>", "</s>", "<unk>"]) == [0, 1, 2, 3]
        assert tokenizer.mask_token_id == len(tokenizer) - 1
        a, b = tokenizer.tokenize("an"), tokenizer.tokenize("order")
        assert tokenizer("an", "order").tokens() == ["<s>", *a, "</s>", "</s>", *b, "</s>"]
        assert tokenizer.tokenize("to <mask> deliver") == ["to", " <mask>", "Ġdeliver"]


def test_t5_ends_with_sentinels_counted_from_the_end():
    tokenizer = _train("unigram", extra_ids=10)
    assert tokenizer.convert_tokens_to_ids(["<pad>", "</s>", "<unk>"]) == [0, 1, 2]
    assert [tokenizer.convert_tokens_to_ids(f"<extra_id_{n}>") for n in range(10)] == list(
        range(599, 589, -1)
    )
    assert tokenizer("an order").tokens()[-1] == "</s>"
    assert "<extra_id_3>" in tokenizer.tokenize("an <extra_id_3> order")


def test_gpt_adds_nothing_and_pads_with_a_token_of_its_own():
    tokenizer = _train()
    assert tokenizer("to deliver").tokens() == ["to", "Ġdeliver"]
    assert tokenizer.eos_token == tokenizer.bos_token == "<|endoftext|>"
    assert tokenizer.pad_token == "<|pad|>" != tokenizer.eos_token


def test_a_chat_template_comes_with_its_tokens(tmp_path):
    _train(chat_template_path="chatml").save_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    ids = tokenizer.apply_chat_template([{"role": "user", "content": "an order"}], return_dict=False)
    tokens = tokenizer.convert_ids_to_tokens(ids)
    assert tokens[0] == "<|im_start|>" and tokens.count("<|im_end|>") == 1
    assert tokenizer.decode(ids) == "<|im_start|>user\nan order<|im_end|>\n"


def test_lower_case():
    tokenizer = _train("wordpiece", lowercase=True)
    assert tokenizer.tokenize("An ORDER") == tokenizer.tokenize("an order")


def _digest(tokenizer):
    return hashlib.md5(tokenizer.backend_tokenizer.to_str().encode()).hexdigest()


def test_training_is_the_same_in_another_process(trained):
    # The order in which the library goes through words is another one in every process.
    code = (
        "import sys; sys.path[:0] = ['tests', 'tests/tokenization']; import test_train as t;"
        "print(*(t._digest(t._train(kind)) for kind in t.TYPES))"
    )
    seen = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert seen.stdout.split()[-4:] == [_digest(trained[kind]) for kind in TYPES]


def test_unigram_scores_are_settled():
    noisy = [
        ["b", -3.0000000001],
        ["ab", -2.12344999],
        ["z", -9.0],
        ["y", -8.9999],
        ["x", -8.9998],
        ["cd", -3.0],
    ]
    assert settled_pieces(noisy) == [
        ["ab", -2.1234], ["b", -3.0], ["cd", -3.0], ["x", -8.9998], ["y", -8.9999], ["z", -9.0],
    ]  # fmt: skip
    other = [["b", -3.0], ["cd", -3.0], ["ab", -2.12344998], ["y", -9.0], ["z", -8.9998], ["x", -8.9999]]
    assert settled_pieces(other) == settled_pieces(noisy)


def test_vocabularies_that_are_too_small_are_refused_with_the_size_they_need():
    with pytest.raises(
        UserError, match=r"vocab_size: found 200, but 2 special tokens and 256 bytes take 258"
    ):
        _train(vocab_size=200)
    assert len(_train(vocab_size=258)) == 258
    # 3 characters; of the two words "ab" and "b" the last ones are marked: b</w>.
    with pytest.raises(
        UserError, match=r"3 special tokens and 2 characters in 3 forms take 6.*limit_alphabet"
    ):
        _train("bpe", ["ab b"], vocab_size=5)
    assert sorted(_train("bpe", ["ab b"], vocab_size=6).get_vocab()) == [
        "<|endoftext|>", "<|pad|>", "<|unk|>", "a", "b", "b</w>",
    ]  # fmt: skip
    with pytest.raises(UserError, match=r"13 special tokens and .* characters take"):
        _train("unigram", vocab_size=40)


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("texts", [[], ["", " \n"]])
def test_an_empty_corpus_is_refused(kind, texts):
    with pytest.raises(UserError, match="there is no text to train on"):
        _train(kind, texts)


def test_rare_characters_are_left_out_of_a_limited_alphabet():
    tokenizer = _train("bpe", ["aab ba c"], vocab_size=100, limit_alphabet=2, min_frequency=5)
    characters = {token.removesuffix("</w>") for token in tokenizer.get_vocab()} - set(
        tokenizer.all_special_tokens
    )
    assert characters == {"a", "b"}


def test_wrong_options_are_refused_with_the_nearest_name():
    start = ["--datasets", "x.txt"]
    with pytest.raises(UserError, match=r"--tokenizer_type: .*'wordpeice'.*Did you mean 'wordpiece'"):
        parse_tokenizer([*start, "--tokenizer_type", "wordpeice"])
    with pytest.raises(UserError, match=r"--vocab_sise: unknown option.*Did you mean 'vocab_size'"):
        parse_tokenizer([*start, "--vocab_sise", "9"])
    with pytest.raises(
        UserError, match=r"--lowercase: this has no effect, because tokenizer_type is byte_level"
    ):
        parse_tokenizer([*start, "--lowercase", "true"])
    with pytest.raises(UserError, match=r"--vocab_size: this has no effect, because extend is m"):
        parse_tokenizer([*start, "--extend", "m", "--vocab_size", "9"])
    with pytest.raises(UserError, match=r"--extra_ids: the special tokens of gpt have no sentinels"):
        parse_tokenizer([*start, "--extra_ids", "5"])
    with pytest.raises(KeyProblem, match="cannot be blank"):
        TokenizerOptions(additional_special_tokens=[" "])
    with pytest.raises(UserError, match="is one of the sentinels already"):
        _train("unigram", additional_special_tokens=["<extra_id_3>"])
