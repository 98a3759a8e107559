"""The metrics of an evaluation, from numbers that can be checked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from hf_align.pretraining.data import EvalSource
from hf_align.pretraining.metrics import evaluation_metrics, metrics_by_source, unigram_entropy

DETAILS = {
    "token_loss": np.array([1.0, 3.0, 2.0, 2.0]),
    "correct": np.array([1.0, 0.0, 0.0, 1.0]),
    "target": np.array([5.0, 5.0, 7.0, 9.0]),
    "source": np.array([0.0, 0.0, 1.0, 1.0]),
}


def test_unigram_entropy_of_known_distributions():
    assert unigram_entropy(np.array([3, 3, 3])) == 0
    assert unigram_entropy(np.array([1, 2, 3, 4])) == pytest.approx(math.log(4))
    assert unigram_entropy(np.array([1, 1, 2, 3])) == pytest.approx(1.5 * math.log(2))


def test_metrics_of_four_targets():
    metrics = evaluation_metrics(2.0, 4, {"token_loss": 8.0, "correct": 2.0}, DETAILS)
    assert metrics["loss"] == 2 and metrics["perplexity"] == pytest.approx(math.exp(2))
    assert metrics["token_accuracy"] == 0.5
    assert metrics["unigram_entropy"] == pytest.approx(1.5 * math.log(2))


def test_pairs_have_a_loss_and_a_mean_of_their_own():
    sums = {"token_loss": 8.0, "correct": 2.0, "pair_loss": 1.5, "pairs_correct": 2.0, "pairs": 3.0}
    metrics = evaluation_metrics(99.0, 4, sums, DETAILS)
    assert metrics["loss"] == pytest.approx(2 + 0.5)
    assert metrics["token_loss"] == 2 and metrics["pair_accuracy"] == pytest.approx(2 / 3)


def test_each_source_by_itself_with_bits_a_character():
    sources = [EvalSource("one", 4.0), EvalSource("two", 0.0), EvalSource("three", 1.0)]
    one, two = metrics_by_source(DETAILS, sources, text=True)
    assert one["loss"] == 2 and one["unigram_entropy"] == 0 and one["token_accuracy"] == 0.5
    # 2 nats a token are 2 / ln 2 bits on 4 characters.
    assert one["bits_per_character"] == pytest.approx(2 / math.log(2) / 4)
    assert "bits_per_character" not in two and two["unigram_entropy"] == pytest.approx(math.log(2))
    assert "bits_per_character" not in metrics_by_source(DETAILS, sources, text=False)[0]
