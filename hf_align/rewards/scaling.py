"""What is done to scores before they are learned from: penalty, normalisation, clipping.

Pure functions and one immutable state, in float64. Where a score goes in a sequence of tokens is the business
of the loop that uses it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Scores = npt.NDArray[np.float64]

SMALLEST_DEVIATION = 1e-8
"""Added to the standard deviation, so that equal scores are not divided by zero."""


@dataclass(frozen=True)
class RunningMoments:
    """Mean and spread of all scores seen so far.

    ``count``: how many. ``mean``: theirs. ``squares``: the sum of squared differences from the mean.
    """

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0

    @property
    def std(self) -> float:
        """The standard deviation with count - 1 below; 1 where fewer than two scores were seen."""
        return math.sqrt(self.squares / (self.count - 1)) if self.count > 1 else 1.0

    def updated(self, scores: Scores) -> RunningMoments:
        """The moments with ``scores`` (R,) added: Chan's formula for joining two samples, whatever R.

        Raises ValueError for scores that are not finite, which no later score would fix. Source: Chan, Golub
        and LeVeque 1983, eq. 2.1.
        """
        values = np.asarray(scores, dtype=np.float64)
        if not np.isfinite(values).all():
            raise ValueError("scores: some are not finite numbers")
        if not values.size:
            return self
        new_mean = float(values.mean())
        new_squares = float(np.square(values - new_mean).sum())
        count = self.count + values.size
        difference = new_mean - self.mean
        return RunningMoments(
            count=count,
            mean=self.mean + difference * values.size / count,
            squares=self.squares + new_squares + difference**2 * self.count * values.size / count,
        )

    def to_dict(self) -> dict[str, Any]:
        """For a checkpoint; :meth:`from_dict` gives the same moments, to the last bit."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> RunningMoments:
        return cls(int(content["count"]), float(content["mean"]), float(content["squares"]))


def normalize_scores(scores: Scores, moments: RunningMoments, *, shift: bool = True) -> Scores:
    """``scores`` (R,) in units of the running standard deviation; ``shift``: from the running mean."""
    centre = moments.mean if shift else 0.0
    return (np.asarray(scores, dtype=np.float64) - centre) / (moments.std + SMALLEST_DEVIATION)


def clip_scores(scores: Scores, limit: float | None) -> Scores:
    """``scores`` (R,) between -limit and limit; None: as they are. Raises ValueError for a limit below 0."""
    values = np.asarray(scores, dtype=np.float64)
    if limit is None:
        return values
    if not limit >= 0:
        raise ValueError(f"limit: found {limit}, expected at least 0")
    return np.clip(values, -limit, limit)


def penalize_missing_eos(scores: Scores, stopped: npt.ArrayLike, penalty: float | None) -> Scores:
    """``scores`` (R,) less ``penalty`` where ``stopped`` (R,) bool is False; None: as they are."""
    values = np.asarray(scores, dtype=np.float64)
    return values if penalty is None else values - penalty * ~np.asarray(stopped, dtype=bool)
