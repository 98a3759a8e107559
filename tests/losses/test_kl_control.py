"""The controller of the KL penalty, by the formula of its paper worked out by hand."""

from __future__ import annotations

import math

import pytest

from hf_align.losses.kl_control import MAX_ERROR, AdaptiveKLController, FixedKLController


def test_steps_by_hand() -> None:
    controller = AdaptiveKLController(0.1, target=2.0, horizon=100)
    controller.update(2.2, 10)  # 10 % above: 0.1 (1 + 0.1 * 10 / 100)
    assert controller.coefficient == pytest.approx(0.101)
    controller.update(2.0, 1000)
    assert controller.coefficient == pytest.approx(0.101)
    controller.update(1.8, 50)  # 10 % below: 0.101 (1 - 0.1 * 50 / 100)
    assert controller.coefficient == pytest.approx(0.101 * 0.95)


@pytest.mark.parametrize(("kl", "sign"), [(1e9, 1), (0.0, -1), (-5.0, -1)])
def test_one_step_is_bounded(kl: float, sign: int) -> None:
    controller = AdaptiveKLController(1.0, target=2.0, horizon=10)
    controller.update(kl, 1)
    assert controller.coefficient == pytest.approx(1 + sign * MAX_ERROR / 10)


def test_no_number_and_a_fixed_coefficient_change_nothing() -> None:
    for controller in (AdaptiveKLController(0.3, target=1.0, horizon=1), FixedKLController(0.3)):
        controller.update(math.nan, 5)
        assert controller.coefficient == 0.3
    fixed = FixedKLController(0.0)
    fixed.update(100.0, 100)
    assert fixed.coefficient == 0.0


def test_what_cannot_be_steered() -> None:
    for options in ({"target": 0.0, "horizon": 1}, {"target": 1.0, "horizon": -1}):
        with pytest.raises(ValueError, match="above 0"):
            AdaptiveKLController(0.1, **options)
    with pytest.raises(ValueError, match="coefficient"):
        FixedKLController(-0.1)
