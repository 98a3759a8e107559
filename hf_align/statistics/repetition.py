"""How much a text repeats itself, from its tokens alone."""

from __future__ import annotations

from collections.abc import Sequence

NGRAM = 4


def repeated_ngrams(tokens: Sequence[int], n: int = NGRAM) -> float:
    """The share of the n-grams of ``tokens`` that have come before: 1 - distinct n-grams / n-grams.

    0 for a text without an n-gram, which repeats nothing; nearly 1 for one token again and again. Source: the
    seq-rep-n of Welleck et al. 2019, arXiv 1908.04319. Raises ValueError for n below 1.
    """
    if n < 1:
        raise ValueError(f"n: found {n}, expected at least 1")
    count = len(tokens) - n + 1
    if count <= 0:
        return 0.0
    ids = [int(token) for token in tokens]
    return 1.0 - len({tuple(ids[i : i + n]) for i in range(count)}) / count
