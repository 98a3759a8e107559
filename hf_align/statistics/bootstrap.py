"""Percentile bootstrap intervals: by how much a metric would move had other rows been drawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

DRAWS = 2000
_CELLS = 2**22
"""Values that are drawn at once."""


def bootstrap_interval(
    rows: npt.ArrayLike,
    metric: Callable[[Floats], Floats],
    *,
    seed: int,
    draws: int = DRAWS,
    confidence: float = 0.95,
) -> list[float] | None:
    """[low, high] of a metric of sums over rows (Efron 1979); None for fewer than two rows.

    ``rows`` (n, c) or (n,): what is summed. ``metric``: (draws, c) sums over n rows drawn with replacement to
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
        values.append(metric(generator.multinomial(count, np.full(count, 1 / count), size=size) @ table))
    tail = (1 - confidence) / 2
    return [float(limit) for limit in np.quantile(np.concatenate(values), [tail, 1 - tail])]


BOOTSTRAPS = 2000


LEVEL = 0.95


def mean_and_interval(
    values: Sequence[float] | npt.NDArray[np.floating], *, seed: int = 0
) -> tuple[float, tuple[float, float] | None]:
    """The mean of ``values`` (P,), one for each prompt, and the middle 95 % of that mean over prompts drawn
    again with replacement; None for a single prompt. Raises ValueError without values."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not len(array):
        raise ValueError(f"values: found the shape {array.shape}, expected (P,)")
    low, high = _interval(array[:, None], np.random.default_rng(seed))
    return float(array.mean()), (float(low[0]), float(high[0])) if len(array) > 1 else None


def _interval(
    estimates: npt.NDArray[np.float64], rng: np.random.Generator
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Bounds (N,) of the mean over prompts, from ``estimates`` (P, N). The same draws serve every n."""
    prompts = len(estimates)
    # How often each prompt is drawn is all that a mean needs to know.
    counts = rng.multinomial(prompts, np.full(prompts, 1 / prompts), size=BOOTSTRAPS)
    means = counts @ estimates / prompts
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return low, high
