"""The expected reward of the best of n for every n up to N, averaged over prompts, with its uncertainty.

The formulas for one prompt are in ``best_of_n``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hf_align.statistics.best_of_n import best_of_n_kl_bound, expected_best_of_n
from hf_align.statistics.bootstrap import _interval


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
