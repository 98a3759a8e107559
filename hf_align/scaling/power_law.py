"""Power laws y = factor * x^exponent, and the lowest point of an IsoFLOP curve."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class PowerLaw:
    """``y = factor * x**exponent``."""

    factor: float
    exponent: float

    def __call__(self, x: float) -> float:
        return float(self.factor * x**self.exponent)


def fit_power_law(x: npt.ArrayLike, y: npt.ArrayLike) -> PowerLaw:
    """By least squares on the logarithms. Raises ValueError for fewer than two different ``x``, and for
    values that are not positive and finite."""
    a, b = np.asarray(x, dtype=float).ravel(), np.asarray(y, dtype=float).ravel()
    if a.shape != b.shape or not all((np.isfinite(c) & (c > 0)).all() for c in (a, b)):
        raise ValueError("expected as many x as y, all finite and above 0")
    if len(np.unique(a)) < 2:
        raise ValueError("expected at least two different x")
    exponent, offset = np.polyfit(np.log(a), np.log(b), 1)
    return PowerLaw(float(np.exp(offset)), float(exponent))


def parabola_minimum(sizes: npt.ArrayLike, losses: npt.ArrayLike) -> tuple[float, float]:
    """(size, loss) at the vertex of the parabola through losses over log sizes, runs of one budget (approach
    2 of Hoffmann et al. 2022).

    Raises ValueError for fewer than 5 different sizes, where the curve is not bent upwards, and where its
    vertex lies outside the sizes that were tried: nothing is said of what was not measured.
    """
    x, y = np.log(np.asarray(sizes, dtype=float).ravel()), np.asarray(losses, dtype=float).ravel()
    if len(np.unique(x)) < 5:
        raise ValueError(f"found {len(np.unique(x))} sizes, expected at least 5 for one budget")
    middle = x.mean()
    bend, slope, offset = np.polyfit(x - middle, y, 2)
    if not bend > 0:
        raise ValueError("the losses have no lowest point over these sizes: their curve is not bent upwards")
    vertex = -slope / (2 * bend)
    if not x.min() <= vertex + middle <= x.max():
        raise ValueError(
            f"the lowest point would be at {np.exp(vertex + middle):.3g} parameters, outside the sizes that "
            f"were tried ({np.exp(x.min()):.3g} to {np.exp(x.max()):.3g}); add runs there"
        )
    return float(np.exp(vertex + middle)), float(offset - slope**2 / (4 * bend))
