"""What is shown of an objective is what its collator made: text, inputs and targets in words."""

from __future__ import annotations

import re

import pytest
from helpers.pretraining_tokenizers import (
    SENTENCES,
    byte_level_bpe_tokenizer,
    end_marked_bpe_tokenizer,
    unigram_tokenizer,
    wordpiece_tokenizer,
)

from hf_align.errors import UserError
from hf_align.pretraining.collators import OBJECTIVES
from hf_align.pretraining.collators.show import encode_texts, objective_rows, show_objective

TEXTS = [" ".join(SENTENCES[:3]), " ".join(SENTENCES[3:])]


def _tokenizer(name: str):
    if OBJECTIVES[name].architecture == "encoder":
        return wordpiece_tokenizer()
    return byte_level_bpe_tokenizer() if name in ("text_infilling", "causal") else unigram_tokenizer()


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_can_be_shown(name):
    shown = show_objective(name, _tokenizer(name), TEXTS, max_length=64)
    title, *blocks = shown.split("\n\n")
    assert title == f"{name}: {OBJECTIVES[name].title} ({OBJECTIVES[name].source})"
    assert len(blocks) >= 2
    assert max(map(len, shown.splitlines())) <= 100
    assert show_objective(name, _tokenizer(name), TEXTS, max_length=64) == shown
    if name != "causal":
        assert show_objective(name, _tokenizer(name), TEXTS, max_length=64, epoch=1) != shown


def test_masked_tokens_are_shown_with_what_stands_there():
    text = "My dog is hairy."
    (row,) = objective_rows(
        "mlm", wordpiece_tokenizer(), [text], mask_probability=1.0, random_probability=0.0
    )
    shown = re.findall(r"(\S+) → (\S+?)(?:, |$)", row["targets"])
    assert shown
    assert all(read == "[MASK]" for read, _ in shown)
    assert all(target.removeprefix("##") in text.lower() for _, target in shown)
    assert row["inputs"].count("[MASK]") == len(shown)
    assert row["text"] == "[CLS] my dog is hairy. [SEP]"


def test_span_corruption_shows_the_metric_of_the_paper():
    (row,) = objective_rows("span_corruption", unigram_tokenizer(), [SENTENCES[1]], noise_density=0.3)
    pieces = re.split(r"<extra_id_\d+>", row["targets"].removesuffix(" </s>"))[1:]
    restored = row["inputs"].removesuffix(" </s>")
    for number, piece in enumerate(pieces):
        restored = restored.replace(f"<extra_id_{number}>", piece.strip())
    assert restored.replace(" ", "") == SENTENCES[1].replace(" ", "")


def test_pairs_show_segments_and_label():
    rows = objective_rows("mlm_nsp", wordpiece_tokenizer(), TEXTS, max_length=48)
    assert {row["label"] for row in rows} <= {"0 (B follows A)", "1 (B is random)"}
    assert all(re.fullmatch(r"0 for \d+ tokens, 1 for \d+", row["segments"]) for row in rows)
    swapped = objective_rows("sop", wordpiece_tokenizer(), TEXTS * 4, max_length=48)
    assert {row["label"] for row in swapped} == {"0 (B follows A)", "1 (A and B are swapped)"}


def test_boundaries_stand_around_their_span():
    (row,) = objective_rows(
        "span_mlm", wordpiece_tokenizer(), [SENTENCES[3]], mask_probability=1, random_probability=0
    )
    for left, right in re.findall(
        r"(\S+) \[[^\]]+\] (\S+?)(?:,|$)", row["boundaries"].replace("[MASK]", "M")
    ):
        assert left.strip("#") in row["text"]
        assert right.strip("#") in row["text"]


def test_long_texts_are_cut_and_keep_their_closing_token():
    for name, tokenizer, last in (
        ("mlm", wordpiece_tokenizer(), 3),
        ("causal", byte_level_bpe_tokenizer(), 2),
        ("span_corruption", unigram_tokenizer(), None),
    ):
        (example,) = encode_texts(name, tokenizer, [TEXTS[0]], max_length=12)
        assert len(example["input_ids"]) == 12
        assert last is None or example["input_ids"][-1] == last
        assert example["input_ids"].count(last) <= 1


def test_mistakes_are_explained():
    with pytest.raises(UserError, match="nothing to show of causal: none of 1 texts"):
        show_objective("causal", end_marked_bpe_tokenizer(), [""])
    with pytest.raises(UserError, match="expected one of mlm"):
        show_objective("bert", wordpiece_tokenizer(), TEXTS)
    with pytest.raises(UserError, match="at least two documents"):
        show_objective("mlm_nsp", wordpiece_tokenizer(), [TEXTS[0], " "])
