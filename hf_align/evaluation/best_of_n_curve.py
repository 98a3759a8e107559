"""The expected reward of the best of n for every n up to N, averaged over prompts, with its uncertainty.

The formulas for one prompt are in ``best_of_n``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hf_align.evaluation.best_of_n import best_of_n_kl_bound, expected_best_of_n

BOOTSTRAPS = 2000
LEVEL = 0.95


def best_of_n_curve(
    rewards: Sequence[Sequence[float]] | npt.NDArray[np.floating], *, seed: int = 0
) -> list[dict[str, Any]]:
    """An entry for n = 1..N from ``rewards`` (P, N): N samples of each of P prompts.

    ``n``; ``reward``: the unbiased estimate of the best of n, averaged over the prompts; ``interval``: (low,
    high), the middle 95 % of that mean over prompts drawn again with replacement, None for a single prompt;
    ``kl_bound``: nats. The interval says what other prompts would change. Raises ValueError for another
    shape, and without prompts or samples.
    """
    values = np.asarray(rewards, dtype=np.float64)
    if values.ndim != 2 or 0 in values.shape:
        raise ValueError(f"rewards: found the shape {values.shape}, expected (P, N)")
    prompts, samples = values.shape
    numbers = range(1, samples + 1)
    estimates = np.array([[expected_best_of_n(row, n) for n in numbers] for row in values])
    low, high = _interval(estimates, np.random.default_rng(seed))
    return [
        {
            "n": n,
            "reward": float(estimates[:, n - 1].mean()),
            "interval": (float(low[n - 1]), float(high[n - 1])) if prompts > 1 else None,
            "kl_bound": best_of_n_kl_bound(n),
        }
        for n in numbers
    ]


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
