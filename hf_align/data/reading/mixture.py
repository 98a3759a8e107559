"""How several sources are mixed: by repeating rows, never by dropping any.

Source i with n_i rows and weight w_i gets the share p_i = w_i n_i^a / sum of all, where a is the mixture
exponent (Conneau and Lample 2019, section 3.1, where it is called alpha). The mixture is as short as those
shares allow: the source that needs to be repeated least appears exactly once. With equal weights and
a = 1 that is plain concatenation. (``datasets.interleave_datasets`` either drops the rest of the larger
sources or draws until each has ended, with an uneven number of repeats.)
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from hf_align.errors import UserError

MOST_ROWS = 2**28
"""Rows of an epoch that are mostly repeats; their numbers take 2 GiB."""


def mixture_counts(sizes: Sequence[int], weights: Sequence[float], exponent: float) -> list[int]:
    """Rows of each source in an epoch: at least its size, in proportion to the shares.

    ``sizes`` are positive row counts, ``weights`` positive. Raises ValueError where one is not, and UserError
    where the shares would take more rows than can be numbered in memory.
    """
    if any(size < 1 for size in sizes) or any(weight <= 0 for weight in weights):
        raise ValueError(f"sizes and weights must be positive, got {list(sizes)} and {list(weights)}")
    rows = np.asarray(sizes, dtype=np.float64)
    # Repeats are relative to the least repeated source, so the normalisation of the shares cancels out.
    repeats = np.asarray(weights, dtype=np.float64) * rows ** (exponent - 1.0)
    with np.errstate(over="ignore"):
        counts = np.rint(rows * repeats / repeats.min())
    total = float(counts.sum())
    if not total <= max(MOST_ROWS, 2 * float(rows.sum())):
        raise UserError(
            f"datasets: with these weights an epoch would have {total:.2g} rows, by repeating those of "
            f"{rows.sum():,.0f}; expected weights that differ less."
        )
    return [int(count) for count in counts]


def mixture_indices(size: int, count: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """(count,) row numbers of a source of ``size`` rows: whole passes, then a random part without repeats."""
    passes, rest = divmod(count, size)
    whole = np.tile(np.arange(size, dtype=np.int64), passes)
    return np.concatenate((whole, np.sort(rng.permutation(size)[:rest])))
