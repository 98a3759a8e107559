"""The parametric law L(N, D) = E + A / N^alpha + B / D^beta, fitted to runs (Hoffmann et al. 2022, arXiv
2203.15556, section 3.3 and appendix D.3).

The objective is summed, not averaged: with the tolerances that optimisers have by default an average stops
early, at exponents far from the optimum (Besiroglu et al. 2024, arXiv 2404.10102).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hf_align.errors import UserError

Floats = npt.NDArray[np.float64]

HUBER = 1e-3
"""Differences of log-losses beyond this count linearly, so that single runs do not decide."""
FLOPS_PER_PARAMETER = 6.0
"""Operations for each parameter and token of training."""

_STARTS = tuple(
    itertools.product(
        (0.0, 10.0, 20.0), (0.0, 10.0, 20.0), (-1.0, 0.0, 0.5), (0.2, 0.5, 1.0), (0.2, 0.5, 1.0)
    )
)
_BEST_STARTS = 40


@dataclass(frozen=True)
class ScalingFit:
    """``E``: the loss that no size and no data take away, in nats. ``A``, ``alpha``: what parameters do;
    ``B``, ``beta``: what tokens do. ``objective``: the summed Huber loss of the fit."""

    E: float
    A: float
    B: float
    alpha: float
    beta: float
    objective: float = float("nan")

    def loss(self, parameters: npt.ArrayLike, tokens: npt.ArrayLike) -> Any:
        """The loss in nats of a model of so many parameters after so many tokens; numbers or arrays."""
        n, d = np.asarray(parameters, dtype=float), np.asarray(tokens, dtype=float)
        return self.E + self.A / n**self.alpha + self.B / d**self.beta

    def optimal(self, flops: float) -> tuple[float, float]:
        """(parameters, tokens) of the lowest loss for a budget of ``flops`` = 6 N D.

        Raises ValueError for a budget that is not positive.
        """
        if not flops > 0:
            raise ValueError(f"flops: found {flops:g}, expected more than 0")
        budget = flops / FLOPS_PER_PARAMETER
        ratio = (self.alpha * self.A / (self.beta * self.B)) ** (1 / (self.alpha + self.beta))
        parameters = ratio * budget ** (self.beta / (self.alpha + self.beta))
        return float(parameters), float(budget / parameters)

    @property
    def exponent(self) -> float:
        """How optimal parameters grow with the budget: N ~ C^exponent."""
        return self.beta / (self.alpha + self.beta)


def fit_parametric(parameters: npt.ArrayLike, tokens: npt.ArrayLike, losses: npt.ArrayLike) -> ScalingFit:
    """The fit to runs: their numbers of ``parameters`` and ``tokens``, and their ``losses`` in nats, all
    (R,).

    From many starts, with the analytic gradient. Raises ValueError for fewer than 5 runs, for values that are
    not positive and finite, and where all runs have one size or one number of tokens; UserError without
    scipy.
    """
    data = _checked(parameters, tokens, losses)
    starts = sorted((_objective(np.array(start), *data)[0], start) for start in _STARTS)
    return min(
        (_descend(np.array(start), *data) for _, start in starts[:_BEST_STARTS]),
        key=lambda fit: fit.objective,
    )


def bootstrap_fits(
    parameters: npt.ArrayLike, tokens: npt.ArrayLike, losses: npt.ArrayLike, *, draws: int, seed: int
) -> list[ScalingFit]:
    """Fits to ``draws`` samples of the runs with replacement (Efron 1979), each from the fit to all of them.

    Quantiles of what follows from them are its intervals. A sample that has one size or one number of tokens
    is drawn again. Raises as :func:`fit_parametric`.
    """
    data = _checked(parameters, tokens, losses)
    best = fit_parametric(parameters, tokens, losses)
    start = np.array([np.log(best.A), np.log(best.B), np.log(best.E), best.alpha, best.beta])
    rng = np.random.default_rng(seed)
    found: list[ScalingFit] = []
    while len(found) < draws:
        chosen = rng.integers(0, len(data[0]), len(data[0]))
        n, d, y = (column[chosen] for column in data)
        if len(np.unique(n)) > 1 and len(np.unique(d)) > 1:
            found.append(_descend(start, n, d, y))
    return found


def _checked(*columns: npt.ArrayLike) -> tuple[Floats, Floats, Floats]:
    """Logarithms of parameters, tokens and losses."""
    n, d, y = (np.asarray(column, dtype=np.float64).ravel() for column in columns)
    if not len(n) == len(d) == len(y):
        raise ValueError(f"found {len(n)} sizes, {len(d)} numbers of tokens and {len(y)} losses")
    if len(n) < 5:
        raise ValueError(f"found {len(n)} runs; five numbers are fitted, so that at least 5 are needed")
    for name, column in (("parameters", n), ("tokens", d), ("losses", y)):
        if not (np.isfinite(column) & (column > 0)).all():
            raise ValueError(f"{name}: expected finite numbers above 0")
    for name, column in (("size", n), ("number of tokens", d)):
        if len(np.unique(column)) < 2:
            raise ValueError(f"all runs have one {name}, so that its effect cannot be told")
    return np.log(n), np.log(d), np.log(y)


def _objective(point: Floats, n: Floats, d: Floats, y: Floats) -> tuple[float, Floats]:
    """(sum of the Huber losses of log-losses, its gradient) at (log A, log B, log E, alpha, beta)."""
    a, b, e, alpha, beta = point
    terms = np.stack([a - alpha * n, b - beta * d, np.full_like(n, e)])
    top = terms.max(axis=0)
    weights = np.exp(terms - top)
    total = weights.sum(axis=0)
    error = top + np.log(total) - y
    weights /= total
    inside = np.abs(error) <= HUBER
    value = np.where(inside, 0.5 * error**2, HUBER * (np.abs(error) - 0.5 * HUBER)).sum()
    slope = np.where(inside, error, HUBER * np.sign(error)) * weights
    return float(value), np.array(
        [slope[0].sum(), slope[1].sum(), slope[2].sum(), -(slope[0] * n).sum(), -(slope[1] * d).sum()]
    )


def _descend(start: Floats, n: Floats, d: Floats, y: Floats) -> ScalingFit:
    try:
        from scipy.optimize import minimize
    except ImportError:
        raise UserError("scaling laws need the package scipy; pip install 'hf_align[scaling]'") from None
    found = minimize(
        _objective, start, args=(n, d, y), jac=True, method="L-BFGS-B",
        options={"ftol": 1e-15, "gtol": 1e-12, "maxiter": 5000, "maxfun": 20000},
    )  # fmt: skip
    a, b, e, alpha, beta = found.x
    return ScalingFit(
        float(np.exp(e)), float(np.exp(a)), float(np.exp(b)), float(alpha), float(beta), float(found.fun)
    )
