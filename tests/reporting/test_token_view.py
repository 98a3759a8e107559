"""Tokens as text: every one is kept, characters stay whole, and nothing from the data acts."""

from __future__ import annotations

import re

import numpy as np
import pytest
from helpers.shown_tokens import BYTES, Marks, make_row, sentence_piece
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_align.reporting.mask_view import (
    mask_sample,
    render_html,
    render_terminal,
    sample_view,
)
from hf_align.reporting.token_view import token_texts, visible
from hf_align.types import TokenizedRow


# U+FFFD in a text looks like the bytes of a broken character, and is shown token by token as they are.
@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\ufffd"), max_size=40))
@settings(deadline=None, max_examples=100)
def test_pieces_join_to_the_text_and_keep_every_token(text):
    ids = BYTES(text, add_special_tokens=False)["input_ids"]
    pieces = token_texts(ids, BYTES)
    assert "".join(piece for _, piece in pieces) == text
    assert sum(length for length, _ in pieces) == len(ids) == len(text.encode())


def test_characters_of_several_tokens_are_whole():
    assert token_texts(BYTES("a中🙂")["input_ids"], BYTES) == [(1, "a"), (3, "中"), (4, "🙂")]


def test_bytes_that_nothing_completes_are_shown_one_by_one():
    ids = BYTES("a中")["input_ids"]
    assert token_texts(ids[:3], BYTES) == [(1, "a"), (1, "\ufffd"), (1, "\ufffd")]
    # After a broken character the next one is whole again.
    assert token_texts(ids[:2] + ids[1:], BYTES) == [(1, "a"), (1, "\ufffd"), (3, "中")]


def test_sentence_piece_keeps_spaces_between_words_and_joins_fallback_bytes():
    tokenizer = sentence_piece()
    ids = tokenizer.convert_tokens_to_ids(["▁hi", "▁you", "<0xE4>", "<0xB8>", "<0xAD>", "!"])
    assert token_texts(ids, tokenizer) == [(1, "hi"), (1, " you"), (3, "中"), (1, "!")]


def test_a_token_without_text_is_shown_by_its_name():
    tokenizer = sentence_piece()
    assert token_texts(tokenizer.convert_tokens_to_ids(["▁", "h"]), tokenizer)[0] == (1, "▁")


def test_special_tokens_are_shown():
    ids = BYTES("<|im_start|>a<|im_end|>")["input_ids"]
    assert token_texts(ids, BYTES) == [(1, "<|im_start|>"), (1, "a"), (1, "<|im_end|>")]


@given(st.text(st.sampled_from("ab <&>\"'\n\t中🙂"), min_size=1, max_size=30), st.data())
@settings(deadline=None, max_examples=60)
def test_html_marks_every_trained_token_and_no_other(text, data):
    ids = BYTES(text, add_special_tokens=False)["input_ids"]
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=len(ids), max_size=len(ids))))
    sample = mask_sample(TokenizedRow(np.array(ids), mask), BYTES)
    view = sample_view(sample)
    marks = Marks(str(view["html"]))
    assert marks.tokens == view["trained"] == int(mask.sum())
    assert view["tokens"] == len(ids)
    assert marks.marked == visible("".join(piece for piece, trained in sample["tokens"] if trained))
    assert marks.plain == visible("".join(piece for piece, trained in sample["tokens"] if not trained))


def test_html_from_the_data_is_text():
    row = make_row("<script>alert(1)</script><mark>", trained="alert(1)")
    page = render_html([row], BYTES, None)
    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_terminal_brackets():
    row = make_row("a b\tc\nanswer\n", trained="answer\n")
    assert render_terminal(row, BYTES) == "a·b→\tc↵\n⟦answer↵⟧\n"


def test_terminal_colours_say_the_same_as_brackets():
    row = make_row("ask\nan\nswer!", trained="an\nswer")
    colored = render_terminal(row, BYTES, color=True)
    trained = "".join(re.findall(r"\x1b\[1;36m(.*?)\x1b\[0m", colored))
    assert trained == "an↵swer"
    assert re.sub(r"\x1b\[[0-9;]*m", "", colored) == render_terminal(row, BYTES).replace("⟦", "").replace(
        "⟧", ""
    )


@pytest.mark.parametrize("control", ["\x1b[31m", "\x00", "\x07", "\r", "\u202e", "\u200b", "\ud800"])
def test_controls_never_reach_the_terminal_raw(control):
    shown = visible(f"a{control}b")
    assert control not in shown
    assert not re.search(r"[\x00-\x08\x0b-\x1f]", shown)
    assert shown.startswith("a")
    assert shown.endswith("b")


def test_emoji_sequences_stay_whole():
    family = "👨\u200d👩\u200d👧"
    assert visible(family) == family
