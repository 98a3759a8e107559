"""BART's noises: shares, span lengths, round trip, uniform placement, and each noise by itself."""

from __future__ import annotations

import re
from itertools import pairwise
from math import ceil

import numpy as np
import pytest
from helpers.pretraining_tokenizers import (
    SENTENCES,
    byte_level_bpe_tokenizer,
    indexed,
    random_rows,
    unigram_tokenizer,
    wordpiece_tokenizer,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_align.errors import UserError
from hf_align.pretraining.collators.draws import Draws, example_keys
from hf_align.pretraining.collators.infilling import infill, poisson_quantiles
from hf_align.pretraining.collators.text_infilling import TextInfillingCollator
from hf_align.pretraining.collators.vocabulary import Vocabulary

IGNORED, BOS, PAD, EOS, MASK = -100, 0, 1, 2, 4
OFF = {"mask_ratio": 0.0, "permute_sentences": False}


def _draws(examples: int) -> Draws:
    return Draws(example_keys(0, np.zeros(examples, dtype=int), np.arange(examples)))


def _deviation(probability: float, number: int) -> float:
    return 5 * np.sqrt(probability * (1 - probability) / number)


def _rows(batch: dict, name: str = "input_ids") -> list[list[int]]:
    rows = []
    for ids, mask, labels in zip(batch["input_ids"], batch["attention_mask"], batch["labels"], strict=True):
        rows.append(ids[mask.bool()].tolist() if name == "input_ids" else labels[labels != IGNORED].tolist())
    return rows


def _fits(inputs: list[int], text: list[int]) -> bool:
    """Whether filling each mask of ``inputs`` with some tokens, or none, gives ``text``."""
    pattern = "".join("(?:.*)" if id == MASK else re.escape(chr(1000 + id)) for id in inputs)
    return re.fullmatch(pattern, "".join(chr(1000 + id) for id in text), re.DOTALL) is not None


def test_shares_over_more_than_1e5_words():
    tokenizer = byte_level_bpe_tokenizer()
    rows = random_rows(tokenizer, [130] * 1000)
    special = Vocabulary(tokenizer).special
    collator = TextInfillingCollator(tokenizer, permute_sentences=False, whole_words=False)
    batch = collator(indexed(rows))
    inputs = _rows(batch)
    hidden = [128 - sum(not special[id] for id in row) for row in inputs]
    # ceil(0.3 x 128) = 39 tokens in each row: 39,000 of 128,000.
    assert set(hidden) == {39}
    masks = np.array([row.count(MASK) for row in inputs])
    # Spans of mean length 3 until 39 are reached, so about 39 / 3 and at most half a span more.
    assert 13 < masks.mean() < 13.7


@pytest.mark.parametrize("whole_words", [False, True])
def test_words_are_hidden_whole_and_the_count_is_exact(whole_words):
    tokenizer = byte_level_bpe_tokenizer()
    table = Vocabulary(tokenizer)
    rows = random_rows(tokenizer, list(range(4, 120)))
    collator = TextInfillingCollator(tokenizer, permute_sentences=False, whole_words=whole_words)
    for row, inputs in zip(rows, _rows(collator(indexed(rows))), strict=True):
        starts = table.word_starts(np.array(row)) if whole_words else np.ones(len(row), dtype=bool)
        starts[1] = True
        starts[[0, -1]] = False
        words = int(starts.sum())
        assert _fits(inputs, row)
        assert words - _kept_words(row, starts, inputs) == ceil(round(0.3 * words, 9))


def _kept_words(row: list[int], starts: np.ndarray, inputs: list[int]) -> int:
    """Most words of ``row`` that can stand in ``inputs`` whole and in order, masks standing for any words."""
    bounds = [*np.flatnonzero(starts).tolist(), len(row) - 1]
    words = [tuple(row[a:b]) for a, b in pairwise(bounds)]
    text = inputs[1:-1]
    reachable = {0: 0}  # how far into the inputs -> most kept words
    for word in [*words, None]:
        grown: dict[int, int] = {}
        for at, kept in reachable.items():
            # Step over masks: each may stand for nothing.
            end = at
            options = [end]
            while end < len(text) and text[end] == MASK:
                end += 1
                options.append(end)
            for option in options:
                if word is None:
                    if option == len(text):
                        grown[option] = max(grown.get(option, -1), kept)
                    continue
                if option > 0 and text[option - 1] == MASK:
                    grown[option] = max(grown.get(option, -1), kept)  # the word is behind this mask
                if tuple(text[option : option + len(word)]) == word:
                    grown[option + len(word)] = max(grown.get(option + len(word), -1), kept + 1)
        reachable = grown
    assert reachable, "the inputs are not the text with some words behind masks"
    return max(reachable.values())


def test_text_comes_back_from_inputs_and_targets():
    tokenizer = byte_level_bpe_tokenizer()
    rows = [tokenizer(text)["input_ids"] for text in SENTENCES]
    batch = TextInfillingCollator(tokenizer, permute_sentences=False)(indexed(rows))
    targets = _rows(batch, "labels")
    assert [tokenizer.decode(row, skip_special_tokens=True) for row in targets] == SENTENCES
    for inputs, target in zip(_rows(batch), targets, strict=True):
        assert MASK in inputs
        assert _fits(inputs, target)


@settings(deadline=None, max_examples=60)
@given(
    rows=st.lists(st.lists(st.integers(0, 399), min_size=1, max_size=40), min_size=1, max_size=5),
    percent=st.integers(1, 100),
    whole_words=st.booleans(),
)
def test_infilling_of_any_rows(rows, percent, whole_words):
    tokenizer = byte_level_bpe_tokenizer()
    special = Vocabulary(tokenizer).special
    collator = TextInfillingCollator(
        tokenizer, mask_ratio=percent / 100, permute_sentences=False, whole_words=whole_words
    )
    batch = collator(indexed(rows))
    assert _rows(batch, "labels") == rows
    for row, inputs in zip(rows, _rows(batch), strict=True):
        assert _fits(inputs, row)
        kept = [id for id in inputs if special[id] and id != MASK]
        assert kept == [id for id in row if special[id] and id != MASK]
        if not whole_words:
            text = sum(not special[id] for id in row)
            assert sum(not special[id] for id in inputs) == text - -(-text * percent // 100)


def test_zero_length_spans_insert_masks_anywhere():
    # 2 words, one of them hidden by spans 0, 0, ..., 1: masks may stand before, between and behind.
    ids = np.tile([BOS, 50, 51, EOS], 3000)
    lengths = np.full(3000, 4)
    special = np.tile([True, False, False, True], 3000)
    cumulative = poisson_quantiles(0.5)
    flat, sizes = infill(
        ids, lengths, special, ~special, _draws(3000), mask_id=MASK, ratio=0.5, cumulative=cumulative
    )
    texts = {tuple(row) for row in np.split(flat, np.cumsum(sizes)[:-1])}
    for expected in (
        (BOS, MASK, 51, EOS), (BOS, 50, MASK, EOS), (BOS, MASK, MASK, 51, EOS), (BOS, MASK, 51, MASK, EOS),
        (BOS, 50, MASK, MASK, EOS), (BOS, MASK, 50, MASK, EOS),
    ):  # fmt: skip
        assert expected in texts
    assert all(text[0] == BOS and text[-1] == EOS for text in texts)


def test_all_words_behind_masks():
    tokenizer = byte_level_bpe_tokenizer()
    batch = TextInfillingCollator(tokenizer, mask_ratio=1.0, permute_sentences=False)(
        indexed(random_rows(tokenizer, [30]))
    )
    assert set(_rows(batch)[0]) == {BOS, MASK, EOS}


def _sentences(tokenizer, ids: list[int]) -> list[tuple[int, ...]]:
    ends = Vocabulary(tokenizer).ends_sentence
    found, current = [], []
    for id in ids:
        current.append(id)
        if ends[id]:
            found.append(tuple(current))
            current = []
    return found + ([tuple(current)] if current else [])


def test_sentence_permutation_is_uniform():
    tokenizer = byte_level_bpe_tokenizer()
    row = tokenizer("My dog is hairy. Thank you. The sea? She said")["input_ids"]
    sentences = _sentences(tokenizer, row[1:-1])
    assert len(sentences) == 4
    collator = TextInfillingCollator(tokenizer, mask_ratio=0.0)
    batch = collator(indexed([row] * 24000))
    orders: dict[tuple, int] = {}
    for inputs in _rows(batch):
        assert (inputs[0], inputs[-1]) == (BOS, EOS)
        # The last sentence has no mark, so find sentences by content.
        rest, order = inputs[1:-1], []
        while rest:
            number = next(n for n, s in enumerate(sentences) if tuple(rest[: len(s)]) == s and n not in order)
            order.append(number)
            rest = rest[len(sentences[number]) :]
        orders[tuple(order)] = orders.get(tuple(order), 0) + 1
    assert len(orders) == 24
    assert max(abs(count / 24000 - 1 / 24) for count in orders.values()) < _deviation(1 / 24, 24000)
    assert _rows(batch, "labels") == [row] * 24000


def test_permutation_stays_between_special_tokens():
    tokenizer = byte_level_bpe_tokenizer()
    first, second = (tokenizer(text)["input_ids"] for text in ("A dog. The fox.", "To sea. You did. She"))
    inputs = _rows(TextInfillingCollator(tokenizer, mask_ratio=0.0)(indexed([first + second] * 50)))
    for row in inputs:
        assert sorted(row[: len(first)]) == sorted(first)
        assert (row[len(first) - 1], row[len(first)]) == (EOS, BOS)
    assert len({tuple(row) for row in inputs}) > 6


def test_rotation_begins_at_a_uniformly_random_token():
    tokenizer = byte_level_bpe_tokenizer()
    row = [BOS, 50, 51, 52, 53, 54, EOS]
    batch = TextInfillingCollator(tokenizer, rotation=1.0, **OFF)(indexed([row] * 20000))
    starts = []
    for inputs in _rows(batch):
        shift = inputs[1] - 50
        assert inputs == [BOS, *(50 + (shift + i) % 5 for i in range(5)), EOS]
        starts.append(shift)
    assert np.abs(np.bincount(starts, minlength=5) / 20000 - 0.2).max() < _deviation(0.2, 20000)
    half = _rows(TextInfillingCollator(tokenizer, rotation=0.5, **OFF)(indexed([row] * 20000)))
    # Turned with probability 1/2, and then to another token than the first in 4 of 5 cases.
    assert abs(np.mean([inputs[1] != 50 for inputs in half]) - 0.4) < _deviation(0.4, 20000)


@pytest.mark.parametrize("noise", ["token_masking", "token_deletion"])
def test_token_noises_have_exact_counts_at_uniform_places(noise):
    tokenizer = byte_level_bpe_tokenizer()
    rows = [[BOS, *range(50, 70), EOS]] * 5500
    batch = TextInfillingCollator(tokenizer, **{noise: 0.15}, **OFF)(indexed(rows))
    hit = np.zeros(20)
    for inputs in _rows(batch):
        assert (inputs[0], inputs[-1]) == (BOS, EOS)
        kept = [id for id in inputs[1:-1] if id != MASK]
        assert len(kept) == 17  # 0.15 x 20 = 3 are gone
        assert len(inputs) == (22 if noise == "token_masking" else 19)
        hit[sorted(set(range(50, 70)) - set(kept)) - np.array(50)] += 1
    # 110,000 positions, each hit with probability 3/20.
    assert np.abs(hit / 5500 - 0.15).max() < _deviation(0.15, 5500)


def test_noises_together_keep_the_targets():
    tokenizer = byte_level_bpe_tokenizer()
    rows = random_rows(tokenizer, [1 + 2, 2 + 2, 3 + 2, 60, 100])
    collator = TextInfillingCollator(tokenizer, token_masking=0.1, token_deletion=0.1, rotation=0.5)
    batch = collator(indexed(rows))
    assert _rows(batch, "labels") == rows
    for row, inputs in zip(rows, _rows(batch), strict=True):
        assert (inputs[0], inputs[-1]) == (BOS, EOS)
        text = [id for id in inputs[1:-1] if id != MASK]
        assert not set(text) - set(row)


def test_rows_without_text_stay():
    tokenizer = byte_level_bpe_tokenizer()
    collator = TextInfillingCollator(tokenizer, rotation=1.0, token_deletion=0.5, token_masking=0.5)
    batch = collator(indexed([[BOS, EOS], [EOS], [BOS, 50, EOS], [60]]))
    assert _rows(batch)[:2] == [[BOS, EOS], [EOS]]
    assert _rows(batch, "labels") == [[BOS, EOS], [EOS], [BOS, 50, EOS], [60]]


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (byte_level_bpe_tokenizer, {"mask_ratio": 1.1}, "mask_ratio: found 1.1"),
        (
            byte_level_bpe_tokenizer,
            {"poisson_lambda": 0},
            "poisson_lambda: found 0, expected a number above 0",
        ),
        (byte_level_bpe_tokenizer, {"rotation": -0.1}, "rotation: found -0.1"),
        (byte_level_bpe_tokenizer, OFF, "every noise is off"),
        (unigram_tokenizer, {}, "no mask token"),
    ],
)
def test_mistakes_are_explained(make, options, message):
    with pytest.raises(UserError, match=message):
        TextInfillingCollator(make(), **options)


def test_the_batch_trains_a_bart_model():
    from transformers import BartConfig, BartForConditionalGeneration

    tokenizer = byte_level_bpe_tokenizer()
    config = BartConfig(
        vocab_size=len(tokenizer), d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, pad_token_id=PAD,
        decoder_start_token_id=EOS, forced_eos_token_id=EOS,
    )  # fmt: skip
    batch = TextInfillingCollator(tokenizer)(indexed(random_rows(tokenizer, [30, 12])))
    assert BartForConditionalGeneration(config)(**batch).loss.isfinite()


def test_wordpiece_works_alike():
    tokenizer = wordpiece_tokenizer()
    rows = random_rows(tokenizer, [40, 20])
    batch = TextInfillingCollator(tokenizer)(indexed(rows))
    assert _rows(batch, "labels") == rows
