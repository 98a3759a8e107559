"""Random comparisons: a prompt with answers, as rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from helpers.tiny_models import VOCABULARY

from hf_align.types import ComparisonRow, TokenizedRow


def random_comparison(
    prefix: int, answers: Sequence[int], *, seed: int = 0, scores: Sequence[float] | None = None
) -> ComparisonRow:
    """A row with a prefix and branches of the given lengths, whose tokens are targets but for the first.

    Without ``scores`` the answers stand best first.
    """
    generator = np.random.default_rng(seed)
    shared = generator.integers(3, VOCABULARY, 1)
    branches = []
    for length in answers:
        ids = np.concatenate([shared, generator.integers(3, VOCABULARY, length - 1)]).astype(np.int32)
        mask = np.ones(length, dtype=bool)
        mask[0] = False
        branches.append(TokenizedRow(ids, mask))
    ranks = range(len(answers), 0, -1) if scores is None else scores
    return ComparisonRow(
        prefix=generator.integers(3, VOCABULARY, prefix).astype(np.int32),
        branches=tuple(branches),
        scores=np.array(list(ranks), dtype=np.float64),
        source=f"random:{seed}",
    )
