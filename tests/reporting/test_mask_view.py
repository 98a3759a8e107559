"""The mask as people see it: whole characters, exact counts, nothing from the data that could act."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from hf_align.reporting.mask_view import (
    choose_rows,
    mask_sample,
    render_html,
    render_terminal,
    sample_view,
    standings,
)
from hf_align.reporting.token_view import token_texts, visible
from hf_align.types import ComparisonRow, TokenizedRow


def byte_level() -> PreTrainedTokenizerFast:
    """One token a byte, and two special tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: i for i, letter in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def sentence_piece() -> PreTrainedTokenizerFast:
    """A few pieces with a leading space mark, bytes for everything else."""
    pieces = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "▁hi", "▁you", "h", "i", "!"]
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>", byte_fallback=True))
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


BYTES = byte_level()


def make_row(text: str, *, trained: str = "", tokenizer=BYTES) -> TokenizedRow:
    """A row of ``text`` in which the bytes of the first ``trained`` inside it are targets."""
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    mask = np.zeros(len(ids), dtype=bool)
    if trained:
        start = len(text[: text.index(trained)].encode())
        mask[start : start + len(trained.encode())] = True
    return TokenizedRow(np.array(ids, dtype=np.int32), mask, source="a.jsonl:1")


class Marks(HTMLParser):
    """Text inside and outside of <mark>, and the number of tokens that the marks stand for."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.inside, self.marked, self.plain, self.tokens = False, "", "", 0
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        if tag == "mark":
            self.inside = True
            self.tokens += int(dict(attrs).get("data-tokens", 1))

    def handle_endtag(self, tag):
        if tag == "mark":
            self.inside = False

    def handle_data(self, data):
        if self.inside:
            self.marked += data
        else:
            self.plain += data


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


def test_a_sample_has_one_entry_a_token():
    sample = mask_sample(make_row("Q: 中? 好", trained="好"), BYTES)
    assert sample["source"] == "a.jsonl:1"
    assert sample["tokens"] == [
        *([letter, False] for letter in "Q: "),
        *[["中", False], ["", False], ["", False]],
        *[["?", False], [" ", False]],
        *[["好", True], ["", True], ["", True]],
    ]


def test_a_character_that_is_trained_in_part_counts_as_trained():
    row = make_row("a中", trained="中")
    row.target_mask[1] = False
    assert mask_sample(row, BYTES)["tokens"] == [["a", False], ["", False], ["中", True], ["", True]]
    marks = Marks(str(sample_view(mask_sample(row, BYTES))["html"]))
    assert (marks.plain, marks.marked, marks.tokens) == ("a", "中", 2)


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


def test_the_page_shows_counts_source_and_data_report():
    report = {"sources": [{"name": "a.jsonl", "read": 4321, "kept": 4320, "tokens": 9, "target_tokens": 3}]}
    page = render_html([make_row("ab", trained="b"), make_row("abc", trained="bc")], BYTES, report)
    assert "a.jsonl:1" in page
    assert "3 of their 5 tokens trained" in page
    assert "4,321" in page


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


def test_rows_are_chosen_evenly_or_from_the_start_of_a_stream():
    assert choose_rows(list(range(10)), 2) == [2, 7]
    assert choose_rows(list(range(3)), 3) == [0, 1, 2]
    assert choose_rows(list(range(3)), 9) == [0, 1, 2]
    assert choose_rows([], 3) == []
    assert choose_rows(iter(range(100)), 3) == [0, 1, 2]


@pytest.mark.parametrize("broken", [None, 3, {}, {"tokens": 1}, {"tokens": [1, [2], ["a", 1, 2], None]}])
def test_broken_samples_are_empty(broken):
    view = sample_view(broken)
    assert {key: view[key] for key in ("source", "tokens", "trained", "html", "answers")} == {
        **{"source": "", "tokens": 0, "trained": 0, "html": "", "answers": []},
    }


def compared(
    prefix: str, *answers: str, scores: tuple[float, ...], margin: float | None = None
) -> ComparisonRow:
    """A tree over bytes: the last byte before each answer begins its branch, and the answer is trained."""
    branches = tuple(make_row(prefix[-1] + answer, trained=answer) for answer in answers)
    return ComparisonRow(
        make_row(prefix[:-1]).input_ids, branches, np.array(scores), margin, source="a.jsonl:1"
    )


def test_compared_answers_show_what_they_share_once():
    row = compared("Q: 中?\n", "yes 好", "no", scores=(0.0, 2.0), margin=0.5)
    sample = mask_sample(row, BYTES)
    assert "".join(text for text, _ in sample["tokens"]) == "Q: 中?"
    assert not any(trained for _, trained in sample["tokens"])
    assert [answer["score"] for answer in sample["answers"]] == [0.0, 2.0]
    assert sample["answers"][1]["tokens"] == [["\n", False], ["n", True], ["o", True]]
    assert sample["margin"] == 0.5
    view = sample_view(sample)
    # 7 shared bytes; a line end with 7 and with 2 bytes of answer.
    assert (view["tokens"], view["trained"]) == (18, 9)
    assert view["shared"] == "7 tokens shared, margin 0.5"
    assert [answer["title"] for answer in view["answers"]] == [
        "Answer 1: worse (score 0; 7 of 8 tokens trained)",
        "Answer 2: better (score 2; 2 of 3 tokens trained)",
    ]
    assert Marks(str(view["answers"][1]["html"])).marked == "no"


def test_compared_answers_in_the_terminal():
    row = compared("Q\n", "yes", "no", scores=(1.0, 0.0))
    assert render_terminal(row, BYTES) == (
        "Q\n"
        "-- Answer 1: better (score 1; 3 of 4 tokens trained)\n"
        "↵\n⟦yes⟧\n"
        "-- Answer 2: worse (score 0; 2 of 3 tokens trained)\n"
        "↵\n⟦no⟧\n"
    )
    assert "\x1b[1;36myes" in render_terminal(row, BYTES, color=True)


def test_compared_answers_on_the_page():
    page = render_html([compared("Q\n", "<b>", "no", scores=(1.0, 0.0), margin=2.0)], BYTES, None)
    assert page.count("Answer 1: better (score 1; 3 of 4 tokens trained)") == 1
    assert page.count("1 tokens shared, margin 2") == 1
    assert "<b>" not in page
    assert "5 of their 8 tokens trained" in page


def test_how_answers_compare_in_words():
    assert standings([1.0, 0.0]) == ["better", "worse"]
    assert standings([0.0, 1.0]) == ["worse", "better"]
    assert standings([1.0, 1.0]) == ["tied", "tied"]
    assert standings([3.0, 1.0, 1.0, 0.0]) == [
        "beats 3",
        "beats 1, ties with 1, loses to 1",
        "beats 1, ties with 1, loses to 1",
        "loses to 3",
    ]


@pytest.mark.parametrize("broken", [3, [None], [{"score": "x"}, {"tokens": [[1]]}, 4]])
def test_broken_answers_of_a_record_are_shown_as_far_as_they_go(broken):
    view = sample_view({"source": "a", "tokens": [["x", True]], "answers": broken})
    assert (view["tokens"], view["trained"]) == (1, 1)
