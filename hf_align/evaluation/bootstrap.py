"""Percentile bootstrap intervals: by how much a figure would move had other rows been drawn."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

DRAWS = 2000
_CELLS = 2**22
"""Values that are drawn at once."""


def bootstrap_interval(
    rows: npt.ArrayLike,
    figure: Callable[[Floats], Floats],
    *,
    seed: int,
    draws: int = DRAWS,
    confidence: float = 0.95,
) -> list[float] | None:
    """[low, high] of a figure of sums over rows (Efron 1979); None for fewer than two rows.

    ``rows`` (n, c) or (n,): what is summed. ``figure``: (draws, c) sums over n rows drawn with replacement to
    (draws,) values. The same seed gives the same interval.
    """
    table = np.asarray(rows, dtype=np.float64)
    table = table[:, None] if table.ndim == 1 else table
    count = len(table)
    if count < 2:
        return None
    generator = np.random.default_rng(seed)
    values = []
    together = max(1, _CELLS // count)
    for start in range(0, draws, together):
        # How often each row is drawn is all that sums need to know.
        size = min(together, draws - start)
        values.append(figure(generator.multinomial(count, np.full(count, 1 / count), size=size) @ table))
    tail = (1 - confidence) / 2
    return [float(limit) for limit in np.quantile(np.concatenate(values), [tail, 1 - tail])]
