"""The parametric law: planted laws come back, the gradient is right, sums do not stop early."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import check_grad, minimize

from hf_align.scaling import ScalingFit, bootstrap_fits, fit_parametric, parametric

# Besiroglu et al. 2024, arXiv 2404.10102
LAW = ScalingFit(E=1.8172, A=477.8, B=2143.4, alpha=0.3473, beta=0.3672)


def runs(noise: float = 0.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    sizes, tokens = (
        grid.ravel() for grid in np.meshgrid(np.geomspace(5e7, 1e10, 8), np.geomspace(1e9, 3e11, 8))
    )
    losses = LAW.loss(sizes, tokens)
    return sizes, tokens, losses * np.exp(np.random.default_rng(seed).normal(0, noise, len(losses)))


def test_a_planted_law_comes_back() -> None:
    fit = fit_parametric(*runs())
    assert (fit.E, fit.alpha, fit.beta) == pytest.approx((LAW.E, LAW.alpha, LAW.beta), rel=1e-3)
    assert pytest.approx((LAW.A, LAW.B), rel=2e-2) == (fit.A, fit.B)
    assert fit.objective < 1e-9


def test_noise_moves_it_within_its_bootstrap_interval() -> None:
    data = runs(noise=1e-3, seed=1)
    fits = bootstrap_fits(*data, draws=40, seed=0)
    for name in ("E", "alpha", "beta", "exponent"):
        low, high = np.quantile([getattr(fit, name) for fit in fits], [0.005, 0.995])
        margin = 0.5 * (high - low)
        assert low - margin <= getattr(LAW, name) <= high + margin, name
    assert bootstrap_fits(*data, draws=2, seed=0) == fits[:2]


def test_the_optimum_of_a_budget_by_hand_and_by_search() -> None:
    # Besiroglu's constants give 25.7, 21.6 and 18.4 tokens a parameter.
    printed = ScalingFit(E=1.8169, A=482.01, B=2085.43, alpha=0.3478, beta=0.3658)
    for flops, ratio in ((1e18, 25.7), (1e21, 21.6), (5.76e23, 18.4)):
        parameters, tokens = printed.optimal(flops)
        assert tokens / parameters == pytest.approx(ratio, abs=0.06)
        assert 6 * parameters * tokens == pytest.approx(flops)
        around = [printed.loss(parameters * f, tokens / f) for f in (0.8, 1.0, 1.25)]
        assert around[1] < min(around[0], around[2])


def test_the_gradient_is_that_of_the_objective() -> None:
    data = [np.log(column) for column in runs(noise=0.01)]
    for point in ([5.0, 6.0, 0.5, 0.3, 0.3], [0.0, 20.0, -1.0, 1.0, 0.2]):
        error = check_grad(
            lambda x: parametric._objective(x, *data)[0],
            lambda x: parametric._objective(x, *data)[1],
            np.array(point),
        )
        assert error < 1e-4


def test_sums_and_averages_of_the_objective_agree_at_these_tolerances() -> None:
    sizes, tokens, losses = runs(noise=3e-3, seed=2)
    fit = fit_parametric(sizes, tokens, losses)
    data = [np.log(column) for column in (sizes, tokens, losses)]

    def average(x: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = parametric._objective(x, *data)
        return value / len(sizes), gradient / len(sizes)

    start = np.array([np.log(fit.A) + 0.3, np.log(fit.B) - 0.3, np.log(fit.E), fit.alpha, fit.beta])
    found = minimize(
        average, start, jac=True, method="L-BFGS-B", options={"ftol": 1e-17, "gtol": 1e-13, "maxiter": 9999}
    )
    assert found.x[3:] == pytest.approx([fit.alpha, fit.beta], rel=0.02)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda n, d, y: (n[:4], d[:4], y[:4]), "found 4 runs"),
        (lambda n, d, y: (n * 0 + 1e8, d, y), "all runs have one size"),
        (lambda n, d, y: (n, d * 0 + 1e9, y), "all runs have one number of tokens"),
        (lambda n, d, y: (n, d, y * np.nan), "losses: expected finite numbers above 0"),
        (lambda n, d, y: (n, d[:3], y), "found 64 sizes, 3 numbers of tokens"),
    ],
)
def test_what_cannot_be_fitted_is_refused(change, said: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=said):
        fit_parametric(*change(*runs()))
    with pytest.raises(ValueError, match="flops: found 0"):
        LAW.optimal(0)
