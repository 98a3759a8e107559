"""Power laws by Chinchilla's table, and IsoFLOP curves with a known lowest point."""

from __future__ import annotations

import numpy as np
import pytest

from hf_align.scaling import ScalingFit, fit_power_law, parabola_minimum

# Hoffmann et al. 2022, table 3: parameters, FLOPs, tokens
CHINCHILLA = [
    (400e6, 1.92e19, 8.0e9), (1e9, 1.21e20, 20.2e9), (10e9, 1.23e22, 205.1e9), (67e9, 5.76e23, 1.5e12),
    (175e9, 3.85e24, 3.7e12), (280e9, 9.90e24, 5.9e12), (520e9, 3.43e25, 11.0e12), (1e12, 1.27e26, 21.2e12),
    (10e12, 1.30e28, 216.2e12),
]  # fmt: skip
LAW = ScalingFit(E=1.8169, A=482.01, B=2085.43, alpha=0.3478, beta=0.3658)


def test_the_nine_rows_of_chinchilla_give_their_exponent() -> None:
    sizes, flops, _ = zip(*CHINCHILLA, strict=True)
    assert fit_power_law(flops, sizes).exponent == pytest.approx(0.4981, abs=1e-4)
    assert all(6 * n * d == pytest.approx(c, rel=0.05) for n, c, d in CHINCHILLA)


def test_a_power_law_comes_back() -> None:
    law = fit_power_law([1, 10, 100], [3, 3 * 10**0.5, 30])
    assert (law.factor, law.exponent) == pytest.approx((3, 0.5)) and law(4) == pytest.approx(6)
    with pytest.raises(ValueError, match="two different x"):
        fit_power_law([1, 1], [2, 3])


def test_the_lowest_point_of_a_budget_is_near_the_laws_own() -> None:
    flops = 1e21
    best, _ = LAW.optimal(flops)
    sizes = best * np.geomspace(10**-0.3, 10**0.3, 9)
    size, loss = parabola_minimum(sizes, LAW.loss(sizes, flops / 6 / sizes))
    assert size == pytest.approx(best, rel=2e-3)
    assert loss == pytest.approx(LAW.loss(best, flops / 6 / best), rel=1e-4)


@pytest.mark.parametrize(
    ("losses", "said"),
    [([5, 4, 3, 2, 1.5], "outside the sizes that were tried"), ([1, 2, 3, 2, 1], "not bent upwards")],
)
def test_nothing_is_said_of_what_was_not_measured(losses: list[float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parabola_minimum([1e6, 2e6, 4e6, 8e6, 16e6], losses)
    with pytest.raises(ValueError, match="found 3 sizes"):
        parabola_minimum([1, 2, 3], [1, 0, 1])
