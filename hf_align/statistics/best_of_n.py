"""Best-of-N: what the best of N samples is worth, and how far it can be from the model that sampled.

Sampling and scoring are elsewhere; these are the formulas.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


def expected_best_of_n(rewards: Sequence[float] | npt.NDArray[np.floating], n: int) -> float:
    """Unbiased estimate of E[max of n samples] from ``rewards`` (M,) of M >= n samples of one prompt.

    The mean over all subsets of n samples of their largest reward:
    sum over i >= n of C(i - 1, n - 1) / C(M, n) r_(i), with r_(1) <= ... <= r_(M). Binomials are taken as
    logarithms, so that they do not overflow. Raises ValueError for n outside 1..M, for rewards of another
    shape and for rewards that are not numbers.
    """
    values = np.sort(np.asarray(rewards, dtype=np.float64))
    if values.ndim != 1:
        raise ValueError(f"rewards: found the shape {values.shape}, expected (M,)")
    count = len(values)
    if not 1 <= n <= count:
        raise ValueError(f"n: found {n}, expected 1 to {count}, the number of samples")
    if np.isnan(values).any():
        raise ValueError("rewards: some are not numbers")
    whole = _log_binomial(count, n)
    weights = [math.exp(_log_binomial(i - 1, n - 1) - whole) for i in range(n, count + 1)]
    return math.fsum(weight * value for weight, value in zip(weights, values[n - 1 :], strict=True))


def best_of_n_kl_bound(n: int) -> float:
    """log n - (n - 1) / n, nats: the KL divergence of the best of n from the model is at most this.

    Raises ValueError for n below 1. Source: Beirami et al. 2024, arXiv 2401.01879, theorem 3.1.
    """
    if n < 1:
        raise ValueError(f"n: found {n}, expected at least 1")
    return math.log(n) - (n - 1) / n


def _log_binomial(total: int, chosen: int) -> float:
    return math.lgamma(total + 1) - math.lgamma(chosen + 1) - math.lgamma(total - chosen + 1)
