"""Random numbers that are a function of (seed, epoch, example, purpose, position), and of nothing else.

An example gets the same noise in whatever batch, worker process or rank it is met, and other noise in the
next epoch. A generator object for every example would cost more than the noise itself, so the numbers of a
whole batch come from hashing counters: SplitMix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom
number generators"), whose n-th output is a bit mixer applied to start + n x GAMMA. Each example starts
elsewhere, at a hash of seed, epoch and example. Not for cryptography.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Bits = npt.NDArray[np.uint64]
Integers = npt.NDArray[np.int64]

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_FACTORS = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
_SHIFTS = (np.uint64(30), np.uint64(27), np.uint64(31))
_HIGH = np.uint64(32)
_LOW_HALF = np.uint64(0xFFFFFFFF)

POSITION_BITS = 20
"""How many low bits of a sort key hold the position: rows of up to a million tokens, 44 random bits above."""
_POSITION = np.uint64((1 << POSITION_BITS) - 1)
NEVER = np.uint64(0xFFFFFFFFFFFFFFFF)
"""A sort key behind all others."""


def mix(values: Bits) -> Bits:
    """SplitMix64's bit mixer, in place; returns ``values``."""
    values ^= values >> _SHIFTS[0]
    values *= _FACTORS[0]
    values ^= values >> _SHIFTS[1]
    values *= _FACTORS[1]
    values ^= values >> _SHIFTS[2]
    return values


def example_keys(seed: int, epochs: Integers, indices: Integers) -> Bits:
    """(B,) the start of each example's numbers; ``epochs`` and ``indices`` (B,)."""
    key = mix(np.full(len(indices), seed & (2**64 - 1), dtype=np.uint64) + _GAMMA)
    for part in (epochs, indices):
        key = mix(mix(part.astype(np.uint64) + _GAMMA) + key * _FACTORS[0] + _GAMMA)
    return key


def content_keys(ids: Integers, starts: Integers) -> Integers:
    """(B,) a number for each example made of its ids alone; ``ids`` (N,) flat, ``starts`` (B,) increasing."""
    within = np.arange(len(ids)) - np.repeat(starts, np.diff(starts, append=len(ids)))
    return np.add.reduceat(mix(ids.astype(np.uint64) + within.astype(np.uint64) * _GAMMA), starts).view(
        np.int64
    )


@dataclass(frozen=True, eq=False)
class Draws:
    """The random numbers of B examples, ``keys`` (B,) from :func:`example_keys`.

    ``purpose`` tells independent uses apart: a small number that each collator gives to each of its
    decisions.
    """

    keys: Bits

    def bits(self, purpose: int, count: int) -> Bits:
        """(B, count) 64 random bits; column j does not depend on ``count``."""
        steps = np.arange(1, count + 1, dtype=np.uint64) * _GAMMA
        return mix(self._starts(purpose)[:, None] + steps)

    def bits_at(self, purpose: int, rows: Integers, positions: Integers) -> Bits:
        """(N,) what :meth:`bits` has at each (row, position), without computing the rest."""
        steps = (positions.astype(np.uint64) + np.uint64(1)) * _GAMMA
        return mix(self._starts(purpose)[rows] + steps)

    def uniforms(self, purpose: int, count: int) -> npt.NDArray[np.float64]:
        """(B, count) uniform on [0, 1), multiples of 2^-53."""
        return unit_interval(self.bits(purpose, count))

    def sort_keys(self, purpose: int, count: int) -> Bits:
        """(B, count) keys that sort each row into a uniformly random order; no two of a row are equal.

        :func:`positions_of` reads the column that a key came from. Raises ValueError beyond 2^20 columns.
        """
        if count > 1 << POSITION_BITS:
            raise ValueError(
                f"a row has {count} tokens, more than the {1 << POSITION_BITS} that keys can tell apart"
            )
        keys = self.bits(purpose, count)
        keys &= ~_POSITION
        keys |= np.arange(count, dtype=np.uint64)
        return keys

    def _starts(self, purpose: int) -> Bits:
        return self.keys + mix(np.array([purpose + 1], dtype=np.uint64) * _FACTORS[1])


def positions_of(keys: Bits) -> Integers:
    """The columns that sort keys came from."""
    return (keys & _POSITION).astype(np.int64)


def unit_interval(bits: Bits) -> npt.NDArray[np.float64]:
    """Uniform numbers on [0, 1) from 64 random bits each."""
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def below(bits: Bits, limits: int | Integers) -> Integers:
    """Uniform integers from 0 to ``limits`` - 1, limits below 2^32, from the low half of the bits."""
    scaled = (bits & _LOW_HALF) * np.asarray(limits, dtype=np.uint64)
    return (scaled >> _HIGH).astype(np.int64)


def chance(bits: Bits, probability: float) -> npt.NDArray[np.bool_]:
    """True with ``probability``, to 2^-32, from the high half of the bits."""
    return (bits >> _HIGH) < np.uint64(round(probability * 2**32))
