"""Masked language modelling: counts, proportions, whole words, and agreement with other implementations."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from helpers.pretraining_tokenizers import (
    byte_level_bpe_tokenizer,
    indexed,
    random_rows,
    unigram_tokenizer,
    unmarked_tokenizer,
    wordpiece_tokenizer,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import DataCollatorForLanguageModeling

from hf_align.errors import UserError
from hf_align.pretraining.collators.draws import Draws, example_keys
from hf_align.pretraining.collators.mlm import (
    MaskedLMCollator,
    prediction_counts,
    select_fixed,
    select_words_fixed,
    words_begin,
)
from hf_align.pretraining.collators.vocabulary import Vocabulary

IGNORED = -100


def _deviation(probability: float, number: int) -> float:
    """Five standard deviations of a binomial share."""
    return 5 * np.sqrt(probability * (1 - probability) / number)


def _large_batch(tokenizer, collator, *, rows: int = 1200, length: int = 100) -> tuple[np.ndarray, dict]:
    ids = np.array(random_rows(tokenizer, [length] * rows))
    return ids, {name: tensor.numpy() for name, tensor in collator(indexed(ids.tolist())).items()}


@pytest.mark.parametrize("whole_words", [False, True])
@pytest.mark.parametrize("selection", ["fixed", "bernoulli"])
def test_proportions_over_more_than_1e5_positions(selection, whole_words):
    tokenizer = wordpiece_tokenizer()
    collator = MaskedLMCollator(tokenizer, selection=selection, whole_words=whole_words)
    ids, batch = _large_batch(tokenizer, collator)
    chosen = batch["labels"] != IGNORED
    candidates = ids.size - 2 * len(ids)
    assert candidates > 1e5
    if selection == "fixed":
        # round(0.15 x 100) with the two special tokens counted; whole words may fall short.
        assert (chosen.sum(axis=1) <= 15).all()
        assert chosen.sum(axis=1).mean() > 14.9
        if not whole_words:
            assert (chosen.sum(axis=1) == 15).all()
    else:
        # Words of several tokens are chosen together, so the share varies more than single tokens would.
        clumping = 2 if whole_words else 1
        assert abs(chosen.sum() / candidates - 0.15) < clumping * _deviation(0.15, candidates)
    assert not chosen[:, 0].any()
    assert not chosen[:, -1].any()
    assert np.array_equal(batch["labels"][chosen], ids[chosen])
    assert np.array_equal(batch["input_ids"][~chosen], ids[~chosen])

    number = chosen.sum()
    masked = batch["input_ids"][chosen] == tokenizer.mask_token_id
    # A random token is the mask, or the token itself, once in V draws.
    size = len(tokenizer)
    same = batch["input_ids"][chosen] == ids[chosen]
    mask_share, same_share = 0.8 + 0.1 / size, 0.1 + 0.1 / size
    assert abs(masked.mean() - mask_share) < _deviation(mask_share, number)
    assert abs(same.mean() - same_share) < _deviation(same_share, number)
    other = ~masked & ~same
    assert abs(other.mean() - 0.1 * (1 - 2 / size)) < _deviation(0.1, number)


def test_80_10_10_over_more_than_1e5_chosen_positions():
    tokenizer = wordpiece_tokenizer()
    ids, batch = _large_batch(tokenizer, MaskedLMCollator(tokenizer, mlm_probability=1.0))
    chosen = batch["labels"] != IGNORED
    number, size = chosen.sum(), len(tokenizer)
    assert number == ids.size - 2 * len(ids) > 1e5
    masked = (batch["input_ids"][chosen] == tokenizer.mask_token_id).mean()
    same = (batch["input_ids"][chosen] == ids[chosen]).mean()
    assert abs(masked - (0.8 + 0.1 / size)) < _deviation(0.8, number)
    assert abs(same - (0.1 + 0.1 / size)) < _deviation(0.1, number)
    assert abs(1 - masked - same - 0.1 * (1 - 2 / size)) < _deviation(0.1, number)


def test_random_tokens_are_uniform_over_the_vocabulary():
    tokenizer = wordpiece_tokenizer()
    collator = MaskedLMCollator(
        tokenizer, mlm_probability=1.0, selection="bernoulli", mask_probability=0, random_probability=1
    )
    _, batch = _large_batch(tokenizer, collator)
    drawn = batch["input_ids"][batch["labels"] != IGNORED]
    size = len(tokenizer)
    counts = np.bincount(drawn, minlength=size)
    assert len(counts) == size
    expected = len(drawn) / size
    chi_square = ((counts - expected) ** 2 / expected).sum()
    assert abs(chi_square - (size - 1)) < 5 * np.sqrt(2 * (size - 1))


@pytest.mark.parametrize("selection", ["fixed", "bernoulli"])
def test_every_position_is_equally_likely(selection):
    tokenizer = wordpiece_tokenizer()
    collator = MaskedLMCollator(tokenizer, selection=selection)
    _, batch = _large_batch(tokenizer, collator, rows=6000, length=22)
    share = (batch["labels"] != IGNORED).mean(axis=0)[1:-1]
    # Fixed: round(0.15 x 22) = 3 of the 20 candidates.
    assert np.abs(share - 0.15).max() < _deviation(0.15, 6000)


def test_counts_are_those_of_bert():
    lengths = np.array([1, 3, 10, 20, 128, 512, 30])
    # max(1, round(0.15 x length)) by hand; Python rounds 4.5 to 4.
    assert prediction_counts(lengths, 0.15).tolist() == [1, 1, 2, 3, 19, 77, 4]
    assert prediction_counts(lengths, 0.15, 20).tolist() == [1, 1, 2, 3, 19, 20, 4]


def test_pairs_of_positions_are_as_likely_as_without_replacement():
    candidates = np.ones((40000, 5), dtype=bool)
    keys = Draws(example_keys(0, np.zeros(40000, dtype=int), np.arange(40000))).sort_keys(0, 5)
    selected = select_fixed(candidates, np.full(40000, 2), keys)
    together = selected.astype(int).T @ selected.astype(int) / 40000
    off_diagonal = together[~np.eye(5, dtype=bool)]
    # Each of the 10 pairs has probability 1/10.
    assert np.abs(off_diagonal - 0.1).max() < _deviation(0.1, 40000)


@pytest.mark.parametrize("make", [wordpiece_tokenizer, byte_level_bpe_tokenizer])
@pytest.mark.parametrize("selection", ["fixed", "bernoulli"])
def test_words_are_hidden_whole(make, selection):
    tokenizer = make()
    collator = MaskedLMCollator(tokenizer, selection=selection, whole_words=True)
    rows = random_rows(tokenizer, list(range(5, 90)))
    batch = collator(indexed(rows))
    table = Vocabulary(tokenizer)
    words = 0
    for row, labels in zip(rows, batch["labels"].numpy(), strict=True):
        starts = table.word_starts(np.array(row))
        starts[1] = True
        for word in np.split(np.arange(len(row)), np.flatnonzero(starts))[1:]:
            hidden = labels[word] != IGNORED
            assert hidden.all() or not hidden.any()
            words += hidden.all()
    assert words > 50


def _bert_whole_words(lengths: list[int], budget: int, rng: random.Random) -> list[int]:
    """The words that BERT's loop takes: shuffled, passing over what does not fit."""
    order = list(range(len(lengths)))
    rng.shuffle(order)
    taken, total = [], 0
    for word in order:
        if total >= budget:
            break
        if total + lengths[word] > budget:
            continue
        taken.append(word)
        total += lengths[word]
    return sorted(taken)


def test_whole_words_are_chosen_as_berts_loop_chooses_them():
    lengths, budget, rows = [1, 3, 2, 1, 2], 4, 60000
    starts = np.zeros(9, dtype=bool)
    starts[np.cumsum([0, *lengths[:-1]])] = True
    candidates = np.ones((rows, 9), dtype=bool)
    begins = words_begin(candidates, np.broadcast_to(starts, (rows, 9)).copy())
    keys = Draws(example_keys(0, np.zeros(rows, dtype=int), np.arange(rows))).sort_keys(0, 9)
    selected = select_words_fixed(candidates, begins, np.full(rows, budget), keys)
    ours: dict[tuple[int, ...], int] = {}
    for sets, count in zip(*np.unique(selected[:, starts], axis=0, return_counts=True), strict=True):
        ours[tuple(np.flatnonzero(sets).tolist())] = int(count)
    rng = random.Random(0)
    oracle: dict[tuple[int, ...], int] = {}
    for _ in range(rows):
        chosen = tuple(_bert_whole_words(lengths, budget, rng))
        oracle[chosen] = oracle.get(chosen, 0) + 1
    assert ours.keys() == oracle.keys()
    for chosen, count in oracle.items():
        share = count / rows
        # Two samples of the same size: the difference has twice the variance.
        assert abs(ours[chosen] / rows - share) < np.sqrt(2) * _deviation(share, rows), chosen


@settings(deadline=None, max_examples=60)
@given(
    rows=st.lists(st.lists(st.integers(0, 119), min_size=1, max_size=30), min_size=1, max_size=6),
    probability=st.floats(0, 1),
    whole_words=st.booleans(),
    selection=st.sampled_from(["fixed", "bernoulli"]),
    multiple=st.integers(1, 9),
)
def test_any_rows(rows, probability, whole_words, selection, multiple):
    tokenizer = wordpiece_tokenizer()
    collator = MaskedLMCollator(
        tokenizer,
        mlm_probability=probability,
        whole_words=whole_words,
        selection=selection,
        pad_to_multiple_of=multiple,
    )
    batch = {name: tensor.numpy() for name, tensor in collator(indexed(rows)).items()}
    width = batch["input_ids"].shape[1]
    assert width % multiple == 0
    assert width - max(map(len, rows)) < multiple
    special = Vocabulary(tokenizer).special
    for row, ids, labels, mask in zip(
        rows, batch["input_ids"], batch["labels"], batch["attention_mask"], strict=True
    ):
        length = len(row)
        assert mask.tolist() == [1] * length + [0] * (width - length)
        assert (ids[length:] == tokenizer.pad_token_id).all()
        assert (labels[length:] == IGNORED).all()
        chosen = labels != IGNORED
        assert not special[np.array(row)][chosen[:length]].any()
        # The original text is always restored from inputs and labels.
        assert np.where(chosen, labels, ids)[:length].tolist() == row
        if selection == "fixed":
            candidates = int((~special[np.array(row)]).sum())
            wanted = min(max(1, round(probability * length)), candidates)
            assert chosen.sum() <= wanted
            assert whole_words or chosen.sum() == wanted


@pytest.mark.parametrize("whole_words", [False, True])
def test_rows_of_special_tokens_only_and_of_one_token(whole_words):
    tokenizer = wordpiece_tokenizer()
    collator = MaskedLMCollator(tokenizer, whole_words=whole_words)
    batch = collator(indexed([[2, 3], [2], [50], [2, 50, 3]]))
    assert (batch["labels"] != IGNORED).sum(dim=1).tolist() == [0, 0, 1, 1]


def test_labels_and_shapes_agree_with_transformers():
    tokenizer = wordpiece_tokenizer()
    rows = random_rows(tokenizer, [12, 30, 7])
    theirs = DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.3)(
        [{"input_ids": row, "attention_mask": [1] * len(row)} for row in rows]
    )
    ours = MaskedLMCollator(tokenizer, mlm_probability=0.3, selection="bernoulli")(indexed(rows))
    assert theirs.keys() == ours.keys()
    for name in ours:
        assert ours[name].shape == theirs[name].shape
        assert ours[name].dtype == theirs[name].dtype
    assert torch.equal(ours["attention_mask"], theirs["attention_mask"])


def test_distribution_agrees_with_transformers():
    tokenizer = wordpiece_tokenizer()
    rows = random_rows(tokenizer, [100] * 1200)
    torch.manual_seed(0)
    theirs = DataCollatorForLanguageModeling(tokenizer)([{"input_ids": row} for row in rows])
    ours = MaskedLMCollator(tokenizer, selection="bernoulli")(indexed(rows))
    ids = torch.tensor(rows)
    metrics = []
    for batch in (theirs, ours):
        chosen = batch["labels"] != IGNORED
        inputs = batch["input_ids"][chosen]
        metrics.append(
            [
                chosen.float().mean(),
                (inputs == tokenizer.mask_token_id).float().mean(),
                (inputs == ids[chosen]).float().mean(),
            ]
        )
    numbers = [ids.numel(), ids.numel() * 0.15, ids.numel() * 0.15]
    for theirs_share, ours_share, number in zip(*metrics, numbers, strict=True):
        assert abs(theirs_share - ours_share) < np.sqrt(2) * _deviation(float(ours_share), int(number))


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (
            wordpiece_tokenizer,
            {"mlm_probability": 1.5},
            "mlm_probability: found 1.5, expected a number from 0 to 1",
        ),
        (wordpiece_tokenizer, {"mlm_probability": float("nan")}, "mlm_probability"),
        (wordpiece_tokenizer, {"mask_probability": 0.8, "random_probability": 0.3}, "add up to more than 1"),
        (wordpiece_tokenizer, {"selection": "random"}, "expected 'fixed' or 'bernoulli'"),
        (wordpiece_tokenizer, {"max_predictions": 0}, "max_predictions: found 0"),
        (wordpiece_tokenizer, {"max_predictions": 5, "selection": "bernoulli"}, "limits a fixed selection"),
        (wordpiece_tokenizer, {"pad_to_multiple_of": 0}, "pad_to_multiple_of: found 0"),
        (unigram_tokenizer, {}, "no mask token"),
        (unmarked_tokenizer, {"whole_words": True}, "does not show where words begin"),
    ],
)
def test_mistakes_are_explained_when_the_collator_is_made(make, options, message):
    with pytest.raises(UserError, match=message):
        MaskedLMCollator(make(), **options)


def test_mistakes_in_examples_are_explained():
    collator = MaskedLMCollator(wordpiece_tokenizer())
    with pytest.raises(UserError, match="no examples"):
        collator([])
    with pytest.raises(UserError, match="example 1 of a batch has no tokens"):
        collator([{"input_ids": [2, 3]}, {"input_ids": []}])
    with pytest.raises(UserError, match=r"no 'input_ids', only \['ids'\].*remove_unused_columns"):
        collator([{"ids": [2, 3]}])
    with pytest.raises(UserError, match="all or none"):
        collator([{"input_ids": [2, 3], "index": 0}, {"input_ids": [2, 3]}])
