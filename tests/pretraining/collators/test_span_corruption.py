"""T5's span corruption: counts, lengths, round trip, uniformity, and the published lengths."""

from __future__ import annotations

from math import comb

import numpy as np
import pytest
from helpers.pretraining_tokenizers import (
    SENTENCES,
    indexed,
    random_rows,
    unigram_tokenizer,
    wordpiece_tokenizer,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_align.errors import UserError
from hf_align.pretraining.collators.draws import Draws, example_keys
from hf_align.pretraining.collators.span_corruption import (
    SpanCorruptionCollator,
    noise_spans,
    random_pieces,
    span_corruption_lengths,
)

IGNORED = -100
EOS, PAD = 1, 0


def _draws(examples: int) -> Draws:
    return Draws(example_keys(0, np.zeros(examples, dtype=int), np.arange(examples)))


def _deviation(probability: float, number: int) -> float:
    return 5 * np.sqrt(probability * (1 - probability) / number)


def _restore(inputs: list[int], targets: list[int], sentinels: list[int]) -> list[int]:
    """The text: each sentinel of the inputs replaced by what follows it in the targets."""
    assert inputs[-1] == EOS
    assert targets[-1] == EOS
    filled: dict[int, list[int]] = {}
    current: list[int] = []
    for id in targets[:-1]:
        if id in sentinels:
            current = filled.setdefault(id, [])
        else:
            current.append(id)
    text: list[int] = []
    for id in inputs[:-1]:
        text += filled.pop(id) if id in filled else [id]
    assert not filled
    return text


def _parts(batch: dict, row: int) -> tuple[list[int], list[int]]:
    length = int(batch["attention_mask"][row].sum())
    inputs, labels = batch["input_ids"][row].tolist(), batch["labels"][row].tolist()
    assert inputs[length:] == [PAD] * (len(inputs) - length)
    targets = [id for id in labels if id != IGNORED]
    assert labels == targets + [IGNORED] * (len(labels) - len(targets))
    return inputs[:length], targets


def _expected_counts(length: int, density: float = 0.15, mean: float = 3.0) -> tuple[int, int]:
    """Noise tokens and spans, by the description."""
    noise = min(max(round(length * density), 1), length - 1)
    return noise, max(1, round(noise / mean))


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(1, 200), min_size=1, max_size=6), st.integers(0, 1000), st.booleans())
def test_round_trip_and_exact_counts(lengths, seed, closing):
    tokenizer = unigram_tokenizer()
    rows = random_rows(tokenizer, lengths, seed=seed, specials=False)
    batch = SpanCorruptionCollator(tokenizer)(indexed([[*row, EOS] if closing else row for row in rows]))
    sentinels = tokenizer.convert_tokens_to_ids([f"<extra_id_{i}>" for i in range(40)])
    for number, row in enumerate(rows):
        inputs, targets = _parts(batch, number)
        assert _restore(inputs, targets, sentinels) == row
        if len(row) == 1:
            assert (inputs, targets) == ([*row, EOS], [EOS])
            continue
        noise, spans = _expected_counts(len(row))
        assert len(inputs) == len(row) - noise + spans + 1
        assert len(targets) == noise + spans + 1
        # Kept text first, sentinels in order from <extra_id_0>, the last before EOS.
        assert inputs[0] == row[0]
        assert [id for id in inputs if id in sentinels] == sentinels[:spans]
        assert [id for id in targets if id in sentinels] == sentinels[:spans]
        assert inputs[-2] in sentinels
        assert targets[0] == sentinels[0]


def test_text_comes_back():
    tokenizer = unigram_tokenizer()
    rows = [tokenizer(text)["input_ids"] for text in SENTENCES]
    batch = SpanCorruptionCollator(tokenizer)(indexed(rows))
    sentinels = tokenizer.convert_tokens_to_ids([f"<extra_id_{i}>" for i in range(40)])
    texts = [tokenizer.decode(_restore(*_parts(batch, number), sentinels)) for number in range(len(rows))]
    assert texts == SENTENCES


def test_proportions_over_more_than_1e5_positions():
    lengths = np.full(1000, 120)
    spans = noise_spans(lengths, _draws(1000))
    noise = spans.noise.reshape(1000, 120)
    # round(0.15 x 120) = 18 noise tokens in 6 spans, exactly.
    assert (noise.sum(axis=1) == 18).all()
    assert ((np.diff(noise.astype(int), axis=1, prepend=0) == 1).sum(axis=1) == 6).all()
    assert not noise[:, 0].any()
    assert noise[:, -1].all()
    assert spans.noise.mean() == 0.15
    assert (spans.noise_counts / spans.span_counts == 3).all()


@pytest.mark.parametrize(("total", "pieces"), [(6, 3), (7, 2), (5, 5), (5, 1)])
def test_every_segmentation_is_equally_likely(total, pieces):
    number = 20000
    lengths = random_pieces(np.full(number, total), np.full(number, pieces), _draws(number), 0)
    lengths = lengths.reshape(number, pieces)
    assert (lengths.sum(axis=1) == total).all()
    assert lengths.min() >= 1
    _, counts = np.unique(lengths, axis=0, return_counts=True)
    ways = comb(total - 1, pieces - 1)
    assert len(counts) == ways
    assert np.abs(counts / number - 1 / ways).max() <= _deviation(1 / ways, number)


def _segments_by_shuffling(total: int, pieces: int, rng: np.random.Generator) -> list[int]:
    """The published way: shuffle a row of first-in-segment marks, count what lies between."""
    marks = [1] * (pieces - 1) + [0] * (total - pieces)
    rng.shuffle(marks)
    lengths = [1]
    for mark in marks:
        if mark:
            lengths.append(1)
        else:
            lengths[-1] += 1
    return lengths


def test_masks_are_distributed_as_those_of_random_spans_noise_mask():
    number, length = 20000, 24
    ours = noise_spans(np.full(number, length), _draws(number), noise_density=0.3).noise.reshape(
        number, length
    )
    rng, theirs = np.random.default_rng(0), []
    noise, spans = _expected_counts(length, 0.3)
    for _ in range(number):
        hidden = _segments_by_shuffling(noise, spans, rng)
        kept = _segments_by_shuffling(length - noise, spans, rng)
        theirs.append(np.repeat(np.tile([False, True], spans), np.stack([kept, hidden], axis=1).ravel()))
    mine, other = ours.mean(axis=0), np.mean(theirs, axis=0)
    assert (np.abs(mine - other) <= np.sqrt(2) * np.maximum(_deviation(other, number), 1e-3)).all()
    together = [(mask[:, :-2] & mask[:, 2:]).mean(axis=0) for mask in (ours, np.array(theirs))]
    bound = np.sqrt(2) * np.maximum(_deviation(together[1], number), 1e-3)
    assert (np.abs(together[0] - together[1]) <= bound).all()


def test_published_lengths():
    # T5: inputs of 512 need 568 tokens of text and give targets of 114.
    assert span_corruption_lengths(512) == (568, 114)


@settings(deadline=None, max_examples=60)
@given(st.integers(4, 700), st.sampled_from([0.1, 0.15, 0.3, 0.5]), st.sampled_from([2.0, 3.0, 5.0]))
def test_lengths_fill_the_inputs_exactly(inputs_length, density, mean):
    raw, targets = span_corruption_lengths(inputs_length, noise_density=density, mean_span_length=mean)
    tokenizer = unigram_tokenizer()
    tokenizer.add_tokens([f"<extra_id_{i}>" for i in range(40, 400)], special_tokens=True)
    collator = SpanCorruptionCollator(tokenizer, noise_density=density, mean_span_length=mean)
    batch = collator(indexed(random_rows(tokenizer, [raw, raw + 1], specials=False)))
    lengths = batch["attention_mask"].sum(dim=1).tolist()
    assert lengths[0] == inputs_length
    assert lengths[1] == inputs_length + 1
    assert int((batch["labels"][0] != IGNORED).sum()) == targets


def test_unusable_lengths_are_refused():
    with pytest.raises(UserError, match="inputs_length: found 2, expected at least 3"):
        span_corruption_lengths(2)
    assert span_corruption_lengths(3) == (2, 3)
    with pytest.raises(UserError, match="noise_density: found 1"):
        span_corruption_lengths(512, noise_density=1)


def test_more_spans_than_sentinels():
    tokenizer = unigram_tokenizer()
    collator = SpanCorruptionCollator(tokenizer, noise_density=0.5, mean_span_length=1)
    with pytest.raises(
        UserError, match=r"100 tokens is to lose 50 spans.*40 sentinels \(<extra_id_0> to <extra_id_39>\)"
    ):
        collator(indexed(random_rows(tokenizer, [20, 100], specials=False)))


@pytest.mark.parametrize("length", [1, 2, 3])
@pytest.mark.parametrize("density", [0.01, 0.5, 0.99])
def test_tiny_texts(length, density):
    tokenizer = unigram_tokenizer()
    batch = SpanCorruptionCollator(tokenizer, noise_density=density)(indexed([[50, 51, 52][:length]]))
    inputs, targets = _parts(batch, 0)
    sentinels = tokenizer.convert_tokens_to_ids([f"<extra_id_{i}>" for i in range(40)])
    assert _restore(inputs, targets, sentinels) == [50, 51, 52][:length]
    assert inputs[0] == 50


def test_a_row_of_eos_only_stays_empty():
    batch = SpanCorruptionCollator(unigram_tokenizer())(indexed([[EOS], [50, 51, EOS]]))
    assert _parts(batch, 0) == ([EOS], [EOS])


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (
            unigram_tokenizer,
            {"noise_density": 0},
            "noise_density: found 0, expected a number above 0 and below 1",
        ),
        (unigram_tokenizer, {"mean_span_length": 0.5}, "mean_span_length: found 0.5"),
        (wordpiece_tokenizer, {}, "no eos token"),
    ],
)
def test_mistakes_are_explained(make, options, message):
    with pytest.raises(UserError, match=message):
        SpanCorruptionCollator(make(), **options)


def test_the_batch_trains_a_t5_model_whose_embeddings_are_padded():
    from transformers import T5Config, T5ForConditionalGeneration

    tokenizer = unigram_tokenizer()
    config = T5Config(
        vocab_size=len(tokenizer) + 28, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2,
        pad_token_id=PAD, eos_token_id=EOS, decoder_start_token_id=PAD,
    )  # fmt: skip
    batch = SpanCorruptionCollator(tokenizer)(indexed(random_rows(tokenizer, [30, 12], specials=False)))
    assert T5ForConditionalGeneration(config)(**batch).loss.isfinite()
