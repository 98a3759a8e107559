"""SpanBERT's spans: exact budgets, lengths, whole words, and agreement with a transcription of the recipe."""

from __future__ import annotations

import random

import numpy as np
import pytest
from helpers.pretraining_tokenizers import (
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
from hf_align.pretraining.collators.span_mlm import (
    SpanMaskingCollator,
    runs,
    select_spans,
    span_budget,
    span_length_distribution,
)
from hf_align.pretraining.collators.vocabulary import Vocabulary

IGNORED = -100


def _draws(examples: int) -> Draws:
    return Draws(example_keys(0, np.zeros(examples, dtype=int), np.arange(examples)))


def _deviation(probability: float, number: int) -> float:
    return 5 * np.sqrt(probability * (1 - probability) / number)


def test_length_distribution_is_that_of_the_paper():
    distribution = span_length_distribution()
    assert len(distribution) == 10
    # The paper: "mean(l) = 3.8".
    assert (distribution * np.arange(1, 11)).sum() == pytest.approx(3.8, abs=0.005)
    assert distribution[1] / distribution[0] == pytest.approx(0.8)
    assert distribution.sum() == pytest.approx(1)


def _spanbert(words: list[int], budget: int, rng: random.Random) -> list[bool]:
    """The recipe by its description: token by token, for words of these lengths."""
    owner = [word for word, length in enumerate(words) for _ in range(length)]
    hidden = [False] * len(owner)
    while sum(hidden) < budget:
        length = rng.choices(range(1, 11), [0.2 * 0.8**k for k in range(10)])[0]
        anchor = rng.randrange(len(owner))
        if hidden[anchor]:
            continue
        span = [i for i, word in enumerate(owner) if owner[anchor] <= word < owner[anchor] + length]
        for i in span:
            if sum(hidden) < budget:
                hidden[i] = True
    return hidden


@pytest.mark.parametrize(
    ("words", "budget"), [([1, 2, 1, 1, 3, 1, 1, 2, 1, 1, 1, 2, 1, 2], 5), ([1] * 40, 12)]
)
def test_spans_are_distributed_as_those_of_the_recipe(words, budget):
    rows, width = 12000, sum(words)
    begins = np.zeros(width + 2, dtype=bool)
    begins[1 + np.cumsum([0, *words[:-1]])] = True
    candidates = np.zeros((rows, width + 2), dtype=bool)
    candidates[:, 1:-1] = True
    ours = select_spans(
        candidates,
        np.broadcast_to(begins, candidates.shape).copy(),
        np.full(rows, budget),
        _draws(rows),
        span_length_distribution(),
    )[:, 1:-1]
    rng = random.Random(0)
    theirs = np.array([_spanbert(words, budget, rng) for _ in range(rows)])
    assert (ours.sum(axis=1) == budget).all()
    # Each position alone, and with one 1 to 9 places on.
    for shift in range(10):
        mine, other = (
            (hidden[:, : width - shift] & hidden[:, shift:]).mean(axis=0) for hidden in (ours, theirs)
        )
        assert (np.abs(mine - other) < np.sqrt(2) * np.maximum(_deviation(other, rows), 1e-3)).all()
    number_of_runs = [(np.diff(h.astype(int), axis=1, prepend=0) == 1).sum(axis=1) for h in (ours, theirs)]
    mine, other = (np.bincount(number, minlength=13) / rows for number in number_of_runs)
    assert (np.abs(mine - other) < np.sqrt(2) * np.maximum(_deviation(other, rows), 1e-3)).all()


def test_proportions_over_more_than_1e5_positions():
    tokenizer = wordpiece_tokenizer()
    rows = random_rows(tokenizer, [102] * 1200)
    ids = np.array(rows)
    batch = {name: tensor.numpy() for name, tensor in SpanMaskingCollator(tokenizer)(indexed(rows)).items()}
    chosen = batch["labels"] != IGNORED
    assert ids.size > 1e5
    # 15 % of the 100 ordinary tokens of each row.
    assert (chosen.sum(axis=1) == 15).all()
    # 80/10/10 over spans: one decision for each run.
    starts = chosen & ~np.pad(chosen, ((0, 0), (1, 0)))[:, :-1]
    first = np.flatnonzero(starts)
    inputs, flat = batch["input_ids"].ravel(), ids.ravel()
    masked = inputs[first] == tokenizer.mask_token_id
    same = inputs[first] == flat[first]
    size = len(tokenizer)
    assert abs(masked.mean() - (0.8 + 0.1 / size)) < _deviation(0.8, len(first))
    assert abs(same.mean() - (0.1 + 0.1 / size)) < _deviation(0.1, len(first))
    # All tokens of a span share the decision.
    spans = np.split(np.flatnonzero(chosen), np.flatnonzero(np.diff(np.flatnonzero(chosen)) > 1) + 1)
    for span in spans:
        is_mask = inputs[span] == tokenizer.mask_token_id
        if is_mask.mean() > 0.5:
            assert is_mask.all()
        elif (inputs[span] == flat[span]).sum() > len(span) / 2 and len(span) > 2:
            assert (inputs[span] == flat[span]).all()
    assert 3 < np.mean([len(span) for span in spans]) < 8


def test_80_10_10_over_more_than_1e5_spans():
    tokenizer = wordpiece_tokenizer()
    # ceil(0.15 x 12) = 2 tokens of a row are hidden, in one span or in two.
    ids = np.array(random_rows(tokenizer, [14] * 100000))
    batch = SpanMaskingCollator(tokenizer, boundaries=False)(indexed(ids.tolist()))
    chosen = batch["labels"].numpy() != IGNORED
    inputs = batch["input_ids"].numpy()
    first = chosen & ~np.pad(chosen, ((0, 0), (1, 0)))[:, :-1]
    number, size = first.sum(), len(tokenizer)
    assert number > 1e5
    masked = (inputs[first] == tokenizer.mask_token_id).mean()
    same = (inputs[first] == ids[first]).mean()
    assert abs(masked - (0.8 + 0.1 / size)) < _deviation(0.8, number)
    assert abs(same - (0.1 + 0.1 / size)) < _deviation(0.1, number)


@pytest.mark.parametrize("make", [wordpiece_tokenizer, byte_level_bpe_tokenizer])
def test_only_the_last_span_cuts_a_word(make):
    tokenizer = make()
    table = Vocabulary(tokenizer)
    rows = random_rows(tokenizer, [80] * 200)
    labels = SpanMaskingCollator(tokenizer)(indexed(rows))["labels"].numpy()
    for row, chosen in zip(rows, labels != IGNORED, strict=True):
        starts = table.word_starts(np.array(row))
        starts[1] = True
        words = np.split(np.arange(80), np.flatnonzero(starts))[1:]
        cut = [word for word in words if 0 < chosen[word].sum() < len(word)]
        assert len(cut) <= 1


@settings(deadline=None, max_examples=80)
@given(
    rows=st.lists(st.lists(st.integers(0, 119), min_size=1, max_size=40), min_size=1, max_size=5),
    percent=st.integers(0, 100),
    whole_words=st.booleans(),
)
def test_any_rows(rows, percent, whole_words):
    tokenizer = wordpiece_tokenizer()
    collator = SpanMaskingCollator(tokenizer, mlm_probability=percent / 100, whole_words=whole_words)
    batch = {name: tensor.numpy() for name, tensor in collator(indexed(rows)).items()}
    special = Vocabulary(tokenizer).special
    for r, row in enumerate(rows):
        candidates = sum(not special[id] for id in row[1:-1])
        chosen = batch["labels"][r] != IGNORED
        assert chosen.sum() == -(-candidates * percent // 100)
        assert np.where(chosen, batch["labels"][r], batch["input_ids"][r])[: len(row)].tolist() == row
        for i in np.flatnonzero(chosen):
            left, right = batch["left_boundary"][r, i], batch["right_boundary"][r, i]
            assert 0 <= left < i < right < len(row)
            assert not chosen[left]
            assert not chosen[right]
            assert chosen[left + 1 : right].all()
            assert batch["span_position"][r, i] == i - left - 1
        for name in ("left_boundary", "right_boundary", "span_position"):
            assert not batch[name][r][~chosen].any()


def test_spans_do_not_cross_special_tokens():
    tokenizer = wordpiece_tokenizer()
    row = [2, *range(20, 40), 3, *range(20, 40), 3]
    labels = SpanMaskingCollator(tokenizer, mlm_probability=0.9)(indexed([row] * 200))["labels"].numpy()
    assert (labels[:, [0, 21, 42]] == IGNORED).all()


def test_budget_is_not_raised_by_rounding_errors():
    # 0.15 x 20 is 3 and 0.15 x 60 is 9, exactly; 0.07 x 100 is 7.000000000000001 in binary.
    assert span_budget(np.array([20, 60, 21, 0]), 0.15).tolist() == [3, 9, 4, 0]
    assert span_budget(np.array([100]), 0.07).tolist() == [7]


def test_runs():
    selected = np.array([[0, 1, 1, 0, 1, 0], [0, 0, 0, 0, 1, 1], [0, 0, 0, 0, 0, 0]], dtype=bool)
    first, end = runs(selected)
    assert first.tolist() == [[0, 1, 1, 0, 4, 0], [0, 0, 0, 0, 4, 4], [0] * 6]
    assert end.tolist() == [[0, 3, 3, 0, 5, 0], [0, 0, 0, 0, 6, 6], [0] * 6]


def test_boundaries_can_be_left_out():
    tokenizer = wordpiece_tokenizer()
    batch = SpanMaskingCollator(tokenizer, boundaries=False)(indexed([[2, 20, 21, 3]]))
    assert set(batch) == {"input_ids", "attention_mask", "labels"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"span_length_p": 0}, "span_length_p: found 0"),
        ({"span_length_p": 1.2}, "span_length_p: found 1.2"),
        ({"max_span_length": 0}, "max_span_length: found 0"),
        ({"selection": "bernoulli"}, "leave out selection"),
    ],
)
def test_mistakes_are_explained(options, message):
    with pytest.raises(UserError, match=message):
        SpanMaskingCollator(wordpiece_tokenizer(), **options)
    with pytest.raises(UserError, match="no mask token"):
        SpanMaskingCollator(unigram_tokenizer())
