"""Where words begin and sentences end, for the four ways in which vocabularies mark words."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.pretraining_tokenizers import (
    CHINESE,
    SENTENCES,
    byte_level_bpe_tokenizer,
    end_marked_bpe_tokenizer,
    unigram_tokenizer,
    unmarked_tokenizer,
    wordpiece_tokenizer,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_align.errors import UserError
from hf_align.pretraining.collators.vocabulary import Vocabulary
from hf_align.pretraining.collators.words import ends_sentence, split_sentences, word_borders, word_mark

KINDS = {
    "##": wordpiece_tokenizer,
    "Ġ": byte_level_bpe_tokenizer,
    "▁": unigram_tokenizer,
    "</w>": end_marked_bpe_tokenizer,
}


def _words(tokenizer, text: str) -> list[str]:
    """The text cut where the table says that words begin."""
    ids = np.array(tokenizer(text, add_special_tokens=False)["input_ids"])
    starts = Vocabulary(tokenizer).word_starts(ids)
    starts[0] = True
    pieces = np.split(ids, np.flatnonzero(starts)[1:])
    return [tokenizer.decode(piece).strip() for piece in pieces]


@pytest.mark.parametrize("kind", KINDS)
def test_words_of_english_text(kind):
    tokenizer = KINDS[kind]()
    assert len(tokenizer.tokenize("tokenised")) > 1, "a word of several tokens is what this is about"
    words = _words(tokenizer, "unbelievable rivers, tokenised words.")
    assert words == ["unbelievable", "rivers", ",", "tokenised", "words", "."]


@pytest.mark.parametrize("kind", ["##", "Ġ", "▁"])
def test_each_chinese_character_is_a_word(kind):
    words = _words(KINDS[kind](), CHINESE[:8])
    # Unigram may hold frequent strings of characters as one token; then that token is the word.
    assert "".join(words) == CHINESE[:8] or kind == "▁"
    assert len(words) == 8 or kind == "▁"
    assert len(words) >= 6


@pytest.mark.parametrize(
    ("tokens", "begin"),
    [
        (["▁use", "中", "abc", "def", "日本", "go", "es"], ["▁use", "中", "abc", "日本", "go"]),
        # 中 and é are E4 B8 AD and C3 A9, spelled with the stand-ins of bytes.
        (["Ġuse", "ä¸Ń", "abc", "def", "Ã©", "t"], ["Ġuse", "ä¸Ń", "abc"]),
        (["use</w>", "中", "abc", "def</w>"], ["中", "abc"]),
    ],
)
def test_latin_letters_behind_chinese_ones_begin_a_word(tokens: list[str], begin: list[str]) -> None:
    begins, ends = word_borders(tokens, np.zeros(len(tokens), dtype=bool))
    starts = begins.copy()
    starts[1:] |= ends[:-1]
    assert [token for token, one in zip(tokens, starts, strict=True) if one] == begin


def test_bytes_of_one_chinese_character_stay_together():
    tokenizer = byte_level_bpe_tokenizer()
    ids = tokenizer("龘", add_special_tokens=False)["input_ids"]
    assert len(ids) == 3
    assert Vocabulary(tokenizer).word_starts(np.array(ids)).tolist() == [True, False, False]


def test_a_line_break_ends_a_word():
    assert _words(byte_level_bpe_tokenizer(), "dog\nThe dog") == ["dog", "", "The", "dog"]


def test_mark_of_each_vocabulary():
    for mark, tokenizer in KINDS.items():
        assert word_mark(tokenizer().get_vocab()) == mark


def test_a_vocabulary_without_marks_is_refused():
    with pytest.raises(UserError, match=r"does not show where words begin.*switch whole words off"):
        Vocabulary(unmarked_tokenizer()).word_starts(np.array([1]))


def test_sentence_ends():
    for text in ("word.", "Really?!", "yes! ", "he said.”", "好。", "line\n"):
        assert ends_sentence(text), text
    for text in ("word", ",", "3.14", "好", ""):
        assert not ends_sentence(text), text


def test_split_sentences():
    text = 'My dog is hairy. "Is he?" she asked…  Yes!\nLine without an end\n\n今天好。你呢?我也好'
    english = ["My dog is hairy.", '"Is he?"', "she asked…", "Yes!", "Line without an end"]
    assert split_sentences(text) == [*english, "今天好。", "你呢?我也好"]
    assert split_sentences("  ") == []
    assert split_sentences(" ".join(SENTENCES[:2])) == SENTENCES[:2]


@settings(deadline=None, max_examples=100)
@given(st.text(alphabet='ab .!?。\n"', max_size=60))
def test_split_sentences_loses_only_blanks(text):
    assert "".join("".join(split_sentences(text)).split()) == "".join(text.split())
