"""Spans of text infilling: their lengths are Poisson, and every placement is equally likely."""

from __future__ import annotations

from itertools import permutations
from math import exp, factorial

import numpy as np
import pytest

from hf_align.pretraining.collators.draws import Draws, example_keys
from hf_align.pretraining.collators.infilling import infilling_lengths, infilling_places, poisson_quantiles


def _draws(examples: int) -> Draws:
    return Draws(example_keys(0, np.zeros(examples, dtype=int), np.arange(examples)))


def _deviation(probability: float, number: int) -> float:
    return 5 * np.sqrt(probability * (1 - probability) / number)


def test_quantiles_are_those_of_the_poisson_distribution():
    cumulative = poisson_quantiles(3.0)
    terms = [exp(-3) * 3**k / factorial(k) for k in range(len(cumulative))]
    assert cumulative == pytest.approx(np.cumsum(terms))
    assert cumulative[-1] == pytest.approx(1, abs=1e-15)


def test_span_lengths_are_poisson_and_add_up():
    budget = np.full(20001, 40)
    lengths, counts = infilling_lengths(budget, _draws(20001), poisson_quantiles(3.0))
    assert (lengths.sum(axis=1) == 40).all()
    assert (lengths[np.arange(lengths.shape[1]) >= counts[:, None]] == 0).all()
    # The first five spans never reach the budget's end (P(sum of 5 > 40) < 1e-6), so they are whole draws.
    drawn = lengths[:, :5].ravel()
    number = len(drawn)
    for k in range(10):
        probability = exp(-3) * 3**k / factorial(k)
        assert abs((drawn == k).mean() - probability) < _deviation(probability, number)
    assert abs(drawn.mean() - 3) < 5 * np.sqrt(3 / number)


def test_all_placements_are_equally_likely():
    # 5 words, of which spans of 2, 1 and 0 words hide 3: two words stay.
    rows = 30000
    lengths = np.tile([2, 1, 0], (rows, 1))
    counts, words, budget = np.full(rows, 3), np.full(rows, 5), np.full(rows, 3)
    first, size = infilling_places(words, budget, lengths, counts, _draws(rows))
    assert (first + size <= 5).all()
    assert (first[:, 1:] >= (first + size)[:, :-1]).all()
    found, number = np.unique(np.concatenate([first, size], axis=1), axis=0, return_counts=True)
    orders = set(permutations(["2", "1", "0", "k", "k"]))
    # Every order of two kept words and three spans stands for one placement.
    assert len(found) == len(orders) == 60
    assert np.abs(number / rows - 1 / 60).max() < _deviation(1 / 60, rows)
