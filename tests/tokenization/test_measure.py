"""Figures against counts by hand, and segmentations that put their text together again."""

from __future__ import annotations

import math

import pytest
from helpers.chat_tokenizers import byte_level_tokenizer, sentencepiece_tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from hf_align.tokenization.corpus import Text
from hf_align.tokenization.measure import figures, measure, script_of, segmentation


def _words(*known):
    vocabulary = {word: number for number, word in enumerate(["<unk>", *known])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")


def test_figures_by_hand():
    texts = [Text("a b a", "x", "left"), Text("a ünk  b", "y", "right"), Text("你好", "y", "right")]
    tokenizer = _words("a", "b", "c")
    (measured,), samples = measure([tokenizer], texts, show_progress=False)
    assert vars(measured.total) == {
        "texts": 3, "characters": 15, "bytes": 20, "words": 7, "tokens": 7, "unknown": 2, "lost": 5,
        "exact": 1, "complete": 1,
    }  # fmt: skip
    assert measured.by["source"]["y"].tokens == 4 and measured.by["column"]["left"].tokens == 3
    assert {name: counts.texts for name, counts in measured.by["script"].items()} == {
        "Latin": 2,
        "Chinese (Han)": 1,
    }
    found = figures(tokenizer, measured, name="words")
    # Used: a three times, b twice, unknown twice, out of 7. c is not used; <unk> is special.
    assert found["used"] == 2 and found["used_share"] == pytest.approx(2 / 3)
    entropy = -(3 / 7) * math.log2(3 / 7) - 2 * (2 / 7) * math.log2(2 / 7)
    assert found["entropy"] == pytest.approx(entropy)
    assert found["bits_per_character"] == pytest.approx(entropy * 7 / 15)
    assert found["points"] == [(1, 3), (2, 2), (3, 2)]
    assert samples == []  # all are too short to show


def test_samples_come_from_every_source_and_script_in_turn():
    long = "word " * 200
    texts = [*(Text(f"{n} {long}", "a") for n in range(3)), Text("很" * 100, "a"), Text("b " * 50, "b")]
    _, samples = measure([_words("a")], texts, show_progress=False)
    assert [sample[:2] for sample in samples] == ["0 ", "很很", "b ", "1 ", "2 "]
    assert max(map(len, samples)) <= 400 and samples[0].endswith("word")


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("Hello", "Latin"),
        ("订单 item", "Chinese (Han)"),
        ("ひらがなと漢字", "Japanese (kana)"),
        ("привет world", "Cyrillic"),
        ("a long English text with one 字", "Latin"),
        ("12 + 3", ""),
    ],
)
def test_scripts(text, script):
    assert script_of(text) == script


@settings(deadline=None, max_examples=150)
@given(text=st.text(alphabet=st.characters(exclude_categories=["Cs"])), which=st.integers(0, 2))
def test_pieces_put_together_are_the_text(text, which):
    tokenizer = (byte_level_tokenizer(), sentencepiece_tokenizer(), _words("a"))[which]
    pieces = segmentation(tokenizer, text)
    assert "".join(piece for piece, _, _ in pieces) == text
    if which == 0:
        assert sum(count for _, count, _ in pieces) == len(
            tokenizer(text, add_special_tokens=False).input_ids
        )


def test_bytes_of_a_character_are_one_piece_and_unknown_words_are_marked():
    assert segmentation(byte_level_tokenizer(), "a🙂.") == [
        ("a", 1, False),
        ("🙂", 4, False),
        (".", 1, False),
    ]
    assert segmentation(_words("a"), "a zz") == [("a", 1, False), (" ", 0, False), ("zz", 1, True)]
