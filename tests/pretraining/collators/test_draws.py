"""Counter-based random numbers: uniform, independent of each other, a function of their key alone."""

from __future__ import annotations

import numpy as np
import pytest

from hf_align.pretraining.collators.draws import (
    Draws,
    below,
    chance,
    content_keys,
    example_keys,
    mix,
    positions_of,
    unit_interval,
)


def _draws(examples: int, *, seed: int = 0, epoch: int = 0) -> Draws:
    return Draws(example_keys(seed, np.full(examples, epoch), np.arange(examples)))


def test_splitmix64_reference_values():
    # The first outputs for the seed 1234567 of the generator's published C code.
    gamma = 0x9E3779B97F4A7C15
    states = np.array([(1234567 + n * gamma) % 2**64 for n in (1, 2, 3)], dtype=np.uint64)
    assert mix(states).tolist() == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_uniform_over_the_unit_interval():
    numbers = _draws(400).uniforms(3, 500).ravel()
    counts, _ = np.histogram(numbers, bins=100, range=(0, 1))
    chi_square = ((counts - 2000) ** 2 / 2000).sum()
    # 99 degrees of freedom: mean 99, standard deviation sqrt(198); five of them.
    assert abs(chi_square - 99) < 5 * np.sqrt(198)
    assert numbers.min() >= 0
    assert numbers.max() < 1


@pytest.mark.parametrize("shift", [(0, 1), (1, 0), (1, 1)])
def test_neighbours_are_uncorrelated(shift):
    numbers = _draws(400).uniforms(0, 500)
    rows, columns = shift
    here = numbers[: 400 - rows, : 500 - columns].ravel()
    there = numbers[rows:, columns:].ravel()
    assert abs(np.corrcoef(here, there)[0, 1]) < 5 / np.sqrt(len(here))


@pytest.mark.parametrize(
    "other",
    [_draws(400, seed=1), _draws(400, epoch=1), Draws(_draws(401).keys[1:])],
    ids=["seed", "epoch", "index"],
)
def test_seed_epoch_and_index_change_everything(other):
    first, second = _draws(400).uniforms(0, 300).ravel(), other.uniforms(0, 300).ravel()
    assert abs(np.corrcoef(first, second)[0, 1]) < 5 / np.sqrt(first.size)


def test_purposes_are_independent():
    draws = _draws(400)
    first, second = draws.uniforms(0, 300).ravel(), draws.uniforms(1, 300).ravel()
    assert abs(np.corrcoef(first, second)[0, 1]) < 5 / np.sqrt(first.size)


def test_keys_are_distinct_over_seeds_epochs_and_indices():
    index, epoch = (part.ravel() for part in np.meshgrid(np.arange(3000), np.arange(20)))
    keys = np.concatenate([example_keys(seed, epoch, index) for seed in range(4)])
    assert len(np.unique(keys)) == 4 * 20 * 3000


def test_a_number_depends_on_its_key_only():
    draws, alone = _draws(10), Draws(_draws(10).keys[7:8])
    assert np.array_equal(draws.bits(2, 30)[7], alone.bits(2, 50)[0, :30])
    rows, columns = np.array([7, 3, 7]), np.array([29, 0, 4])
    assert np.array_equal(draws.bits_at(2, rows, columns), draws.bits(2, 30)[rows, columns])


def test_sort_keys_are_random_permutations():
    keys = _draws(30000).sort_keys(0, 4)
    orders = positions_of(np.sort(keys, axis=1))
    assert np.array_equal(np.sort(orders, axis=1), np.broadcast_to(np.arange(4), orders.shape))
    _, counts = np.unique(orders @ np.array([64, 16, 4, 1]), return_counts=True)
    assert len(counts) == 24
    # Each of the 24 orders has probability 1/24.
    deviation = np.sqrt(30000 * (1 / 24) * (23 / 24))
    assert np.abs(counts - 30000 / 24).max() < 5 * deviation


def test_rows_that_sort_keys_cannot_tell_apart_are_refused():
    with pytest.raises(ValueError, match="1048577 tokens"):
        _draws(1).sort_keys(0, 2**20 + 1)


def test_integers_below_a_limit():
    numbers = below(_draws(1000).bits(0, 100), 7)
    counts = np.bincount(numbers.ravel(), minlength=7)
    assert len(counts) == 7
    assert np.abs(counts - 1e5 / 7).max() < 5 * np.sqrt(1e5 / 7 * 6 / 7)
    limits = np.array([1, 2, 50])
    assert (below(_draws(3).bits(0, 1)[:, 0], limits) < limits).all()


@pytest.mark.parametrize("probability", [0.0, 0.15, 0.8, 1.0])
def test_chances(probability):
    share = chance(_draws(1000).bits(0, 100), probability).mean()
    assert abs(share - probability) <= 5 * np.sqrt(probability * (1 - probability) / 1e5)


def test_the_two_halves_of_the_bits_are_independent():
    bits = _draws(1000).bits(0, 100).ravel()
    high, low = chance(bits, 0.5), below(bits, 1000)
    assert abs(np.corrcoef(high, low)[0, 1]) < 5 / np.sqrt(bits.size)


def test_largest_bits_stay_below_one():
    assert unit_interval(np.array([2**64 - 1], dtype=np.uint64))[0] < 1


def test_content_keys_tell_rows_apart_by_order_and_ids():
    rows = [[1, 2, 3], [3, 2, 1], [1, 2], [1, 2, 3], [0, 0], [0]]
    starts = np.cumsum([0, *map(len, rows)])[:-1]
    keys = content_keys(np.concatenate(rows), starts)
    assert keys[0] == keys[3]
    assert len(set(keys.tolist())) == 5
    assert content_keys(np.array([1, 2]), np.array([0]))[0] == keys[2]
