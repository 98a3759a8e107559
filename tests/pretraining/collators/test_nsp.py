"""Sentence pairs: BERT's and ALBERT's recipes, against a transcription of the description."""

from __future__ import annotations

import random
from itertools import chain, pairwise

import numpy as np
import pytest
from helpers.pretraining_tokenizers import unigram_tokenizer, wordpiece_tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_align.errors import UserError
from hf_align.pretraining.collators.nsp import (
    SentencePairCollator,
    document_pairs,
    sentence_pairs,
    truncate_pair,
)


def _documents(number: int, sentences: int, length: int) -> list[list[list[int]]]:
    """Every token occurs once: its value tells document, sentence and place."""
    return [
        [[d * 10**6 + s * 10**3 + t for t in range(length)] for s in range(sentences)] for d in range(number)
    ]


def _bert_truncation(first: list[int], second: list[int], room: int, rng: random.Random) -> None:
    """One token at a time, as in the description."""
    while len(first) + len(second) > room:
        longer = first if len(first) > len(second) else second
        if rng.random() < 0.5:
            del longer[0]
        else:
            longer.pop()


@settings(deadline=None, max_examples=200)
@given(st.integers(1, 30), st.integers(1, 30), st.integers(2, 40), st.integers(0, 2**30))
def test_truncation_leaves_the_lengths_that_one_by_one_removal_leaves(a, b, room, seed):
    first, second = list(range(a)), list(range(100, 100 + b))
    kept = truncate_pair(first, second, room, random.Random(seed))
    expected = list(first), list(second)
    _bert_truncation(*expected, room, random.Random(seed))
    assert [len(part) for part in kept] == [len(part) for part in expected]
    for part, whole in zip(kept, (first, second), strict=True):
        start = whole.index(part[0]) if part else 0
        assert part == whole[start : start + len(part)]


def test_truncation_takes_from_either_end_alike():
    rng, oracle_rng, number = random.Random(0), random.Random(1), 20000
    ours = np.bincount(
        [truncate_pair(list(range(14)), [99] * 5, 15, rng)[0][0] for _ in range(number)], minlength=5
    )
    theirs = np.zeros(5)
    for _ in range(number):
        first, second = list(range(14)), [99] * 5
        _bert_truncation(first, second, 15, oracle_rng)
        theirs[first[0]] += 1
    # Binomial(4, 1/2) tokens come off the front.
    expected = number * np.array([1, 4, 6, 4, 1]) / 16
    for counts in (ours, theirs):
        assert np.abs(counts - expected).max() < 5 * np.sqrt(number * 0.25)


def test_random_and_following_segments():
    documents = _documents(300, 14, 10)
    pairs = sentence_pairs(documents, max_length=64, seed=3)
    owners = [pair["index"] >> 20 for pair in pairs]
    for pair, owner in zip(pairs, owners, strict=True):
        first, second = pair["first"], pair["second"]
        assert first
        assert second
        assert len(first) + len(second) <= 61
        assert {id // 10**6 for id in first} == {owner}
        other = {id // 10**6 for id in second}
        assert len(other) == 1
        assert (other == {owner}) == (pair["label"] == 0)
        if pair["label"] == 0:
            assert max(first) < min(second)
        # Contiguous text: tokens follow one another, within or across sentences.
        for part in (first, second):
            assert all(b - a == 1 or (a % 1000 == 9 and b % 1000 == 0) for a, b in pairwise(part))


def test_documents_of_random_segments_are_uniform_over_the_others():
    documents = _documents(6, 4, 3)
    counts = np.zeros((6, 6))
    for epoch in range(2500):
        for pair in sentence_pairs(documents, max_length=12, epoch=epoch):
            if pair["label"]:
                counts[pair["index"] >> 20, pair["second"][0] // 10**6] += 1
    assert not counts.diagonal().any()
    for row in range(6):
        others = np.delete(counts[row], row)
        assert np.abs(others - others.mean()).max() < 5 * np.sqrt(others.mean())


def _bert_pairs(documents, number, rng, room):
    """BERT's recipe by its description, taking sentences off a list and putting back what is not used."""
    rest, pairs = list(documents[number]), []
    target = rng.randint(2, room) if rng.random() < 0.1 else room
    while rest:
        chunk = []
        while rest and sum(map(len, chunk)) < target:
            chunk.append(rest.pop(0))
        cut = rng.randrange(1, len(chunk)) if len(chunk) > 1 else 1
        first = list(chain(*chunk[:cut]))
        if len(chunk) == 1 or rng.random() < 0.5:
            rest = chunk[cut:] + rest
            other = rng.choice([d for n, d in enumerate(documents) if n != number])
            second, start = [], rng.randrange(len(other))
            while start < len(other) and len(second) < target - len(first):
                second, start = second + other[start], start + 1
            # At least one sentence, even where A alone reaches the target.
            second = second or list(other[start])
            label = 1
        else:
            second, label = list(chain(*chunk[cut:])), 0
        _bert_truncation(first, second, room, rng)
        pairs.append((len(first), len(second), label))
    return pairs


def test_pairs_are_distributed_as_those_of_berts_loop():
    lengths = random.Random(5)
    documents = [[[0] * lengths.randint(1, 12) for _ in range(lengths.randint(1, 9))] for _ in range(12)]
    rng, metrics = random.Random(0), {"ours": [], "theirs": []}
    for _ in range(1500):
        for number in range(12):
            ours = [
                (len(a), len(b), label) for a, b, label in document_pairs(documents, number, rng, room=20)
            ]
            theirs = _bert_pairs(documents, number, rng, 20)
            for name, pairs in (("ours", ours), ("theirs", theirs)):
                columns = np.array(pairs)
                short = (columns[:, :2].sum(axis=1) < 15).sum()
                metrics[name].append([len(pairs), *columns.sum(axis=0), short, (columns[:, 0] ** 2).sum()])
    ours, theirs = np.array(metrics["ours"], dtype=float), np.array(metrics["theirs"], dtype=float)
    difference = ours.mean(axis=0) - theirs.mean(axis=0)
    error = np.sqrt((ours.var(axis=0) + theirs.var(axis=0)) / len(ours))
    assert (np.abs(difference) < 5 * error).all(), (difference, error)


def test_shares_of_random_segments_and_short_targets_over_1e5_chunks():
    # Sentences of one token: the first chunk is as long as the target, and has several sentences.
    documents = [[[1]] * 40, [[2]] * 40]
    number, rng = 100000, random.Random(0)
    labels, lengths = np.zeros(number, dtype=int), np.zeros(number, dtype=int)
    for n in range(number):
        first, second, labels[n] = next(document_pairs(documents, 0, rng, room=30))
        lengths[n] = len(first) + len(second)
    assert abs(labels.mean() - 0.5) < 5 * 0.5 / np.sqrt(number)
    # A tenth has a length uniform from 2 to 30, of which 30 itself cannot be told apart. (A random B may end
    # with its document, so only those that follow say what the target was.)
    short = lengths[(labels == 0) & (lengths < 30)]
    share = 0.1 * 28 / 29 * 0.5
    assert abs(len(short) / number - share) < 5 * np.sqrt(share / number)
    counts = np.bincount(short, minlength=30)[2:]
    assert np.abs(counts - len(short) / 28).max() < 5 * np.sqrt(len(short) / 28)


def test_share_of_swapped_pairs_over_1e5_pairs():
    document = [[[1], [2]]]
    swapped = sum(
        next(document_pairs(document, 0, rng, room=4, kind="sop"))[2]
        for rng in [random.Random(0)]
        for _ in range(100000)
    )
    assert abs(swapped / 1e5 - 0.5) < 5 * 0.5 / np.sqrt(1e5)


def test_sentence_order_pairs():
    documents = _documents(300, 31, 10)
    pairs = sentence_pairs(documents, max_length=64, kind="sop")
    labels = np.array([pair["label"] for pair in pairs])
    assert abs(labels.mean() - 0.5) < 5 * 0.5 / np.sqrt(len(labels))
    for pair in pairs:
        first, second = pair["first"], pair["second"]
        assert {id // 10**6 for id in first + second} == {pair["index"] >> 20}
        assert (first[0] > second[0]) == (pair["label"] == 1)


def test_a_lone_sentence_makes_no_order_pair_and_long_sentences_are_paired():
    assert sentence_pairs([[[1, 2, 3]]], max_length=20, kind="sop") == []
    # Each sentence alone is beyond the target; two of them make a chunk.
    pairs = sentence_pairs([[[1] * 50, [2] * 50, [3] * 50, [4] * 50]], max_length=23, kind="sop")
    assert len(pairs) == 2
    assert all(len(pair["first"]) == len(pair["second"]) == 10 for pair in pairs)


def test_pairs_depend_on_seed_epoch_and_document_only():
    documents = _documents(5, 12, 6)
    again = sentence_pairs(documents, max_length=32, seed=1, epoch=2)
    assert again == sentence_pairs(documents, max_length=32, seed=1, epoch=2)
    for other in ({"seed": 1, "epoch": 3}, {"seed": 2, "epoch": 2}):
        assert [p["first"] for p in sentence_pairs(documents, max_length=32, **other)] != [
            p["first"] for p in again
        ]
    ordered = sentence_pairs(documents, max_length=32, kind="sop", seed=1)
    alone = sentence_pairs(documents[:3], max_length=32, kind="sop", seed=1)
    assert ordered[: len(alone)] == alone


def test_a_pair_in_a_batch():
    tokenizer = wordpiece_tokenizer()
    examples = [
        {"first": [10, 11, 12], "second": [20, 21], "label": 1, "index": 0},
        {"first": np.array([30]), "second": [40], "label": 0, "index": 1},
    ]
    batch = SentencePairCollator(tokenizer)(examples)
    restored = np.where(batch["labels"] == -100, batch["input_ids"], batch["labels"])
    assert restored.tolist() == [[2, 10, 11, 12, 3, 20, 21, 3], [2, 30, 3, 40, 3, 0, 0, 0]]
    assert batch["token_type_ids"].tolist() == [[0] * 5 + [1] * 3, [0] * 3 + [1] * 2 + [0] * 3]
    assert batch["attention_mask"].tolist() == [[1] * 8, [1] * 5 + [0] * 3]
    assert batch["next_sentence_label"].tolist() == [1, 0]
    # round(0.15 x 8) and max(1, round(0.15 x 5)) tokens, none of them special.
    assert (batch["labels"] != -100).sum(dim=1).tolist() == [1, 1]
    assert "sentence_order_label" in SentencePairCollator(tokenizer, kind="sop")(examples)


def test_the_batch_trains_transformers_models():
    from transformers import AlbertConfig, AlbertForPreTraining, BertConfig, BertForPreTraining

    tokenizer = wordpiece_tokenizer()
    small = {
        "vocab_size": len(tokenizer), "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }  # fmt: skip
    documents = [[[10 + i, 40, 50] for i in range(8)] for _ in range(3)]
    for kind, model in (
        ("nsp", BertForPreTraining(BertConfig(**small))),
        ("sop", AlbertForPreTraining(AlbertConfig(**small, embedding_size=8))),
    ):
        pairs = sentence_pairs(documents, max_length=16, kind=kind)
        output = model(**SentencePairCollator(tokenizer, kind=kind)(pairs))
        assert output.loss.isfinite()


def test_mistakes_are_explained():
    with pytest.raises(UserError, match="only 1; give at least two documents"):
        sentence_pairs([[[1], [2]]], max_length=10)
    with pytest.raises(UserError, match="document 1 is empty"):
        sentence_pairs([[[1]], []], max_length=10)
    with pytest.raises(UserError, match="document 0 is empty or has a sentence without tokens"):
        sentence_pairs([[[1], []], [[1]]], max_length=10)
    with pytest.raises(UserError, match="max_length: found 4"):
        sentence_pairs([[[1]], [[2]]], max_length=4)
    with pytest.raises(UserError, match="short_probability: found 2"):
        sentence_pairs([[[1]], [[2]]], max_length=10, short_probability=2)
    with pytest.raises(UserError, match="kind: found 'snp'"):
        SentencePairCollator(wordpiece_tokenizer(), kind="snp")
    with pytest.raises(UserError, match="no mask token"):
        SentencePairCollator(unigram_tokenizer())
    with pytest.raises(UserError, match="no 'first'"):
        SentencePairCollator(wordpiece_tokenizer())([{"input_ids": [1]}])
