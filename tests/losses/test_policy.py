from __future__ import annotations

import math

import pytest
import torch

from hf_align.losses import AdaptiveKLController, FixedKLController, policy_loss, value_loss


@pytest.mark.parametrize(
    ("ratio", "advantage", "expected"),
    [
        (1.0, 2.0, -2.0),
        (1.1, 2.0, -2.2),
        (1.5, 2.0, -2.4),  # clipped at 1.2: no more to gain
        (0.5, 2.0, -1.0),  # the pessimistic side is not clipped
        (0.5, -2.0, 1.6),  # clipped at 0.8
        (1.5, -2.0, 3.0),
    ],
)
def test_policy_loss_by_hand(ratio: float, advantage: float, expected: float) -> None:
    old = torch.tensor([[-1.0]])
    logps = old + math.log(ratio)
    loss = policy_loss(logps, old, torch.tensor([[advantage]]), clip_range=0.2)
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_at_ratio_one_the_gradient_is_that_of_the_policy_gradient() -> None:
    logps = torch.tensor([[-0.5, -2.0]], requires_grad=True)
    advantages = torch.tensor([[3.0, -1.0]])
    policy_loss(logps, logps.detach(), advantages, clip_range=0.2).sum().backward()
    torch.testing.assert_close(logps.grad, -advantages)


def test_a_clipped_token_has_no_gradient() -> None:
    logps = torch.tensor([[0.0]], requires_grad=True)
    policy_loss(logps, torch.tensor([[-1.0]]), torch.tensor([[1.0]]), clip_range=0.2).sum().backward()
    assert logps.grad is not None and logps.grad.item() == 0


def test_distant_policies_stay_finite() -> None:
    logps = torch.tensor([[0.0, -500.0]], requires_grad=True)
    loss = policy_loss(logps, torch.tensor([[-500.0, 0.0]]), torch.tensor([[-1.0, -1.0]]), clip_range=0.2)
    loss.sum().backward()
    assert torch.isfinite(loss).all() and logps.grad is not None and torch.isfinite(logps.grad).all()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1.1, 0.5 * 0.9**2),  # within the range: both are the same
        (1.9, 0.5 * 0.8**2),  # clipped to 1.2, the larger error
        (0.0, 0.5 * 2.0**2),  # the unclipped error is the larger one
    ],
)
def test_value_loss_by_hand(value: float, expected: float) -> None:
    loss = value_loss(torch.tensor([[value]]), torch.tensor([[1.0]]), torch.tensor([[2.0]]), clip_range=0.2)
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_bad_input_is_refused() -> None:
    one = torch.zeros(1, 1)
    with pytest.raises(ValueError, match="clip_range"):
        policy_loss(one, one, one, clip_range=0.0)
    with pytest.raises(ValueError, match="one shape"):
        value_loss(one, torch.zeros(1, 2), one, clip_range=0.2)


def test_the_adaptive_controller_by_hand() -> None:
    controller = AdaptiveKLController(0.2, target=6.0, horizon=10_000)
    controller.update(6.6, 256)  # error 0.1
    assert controller.coefficient == pytest.approx(0.2 * (1 + 0.1 * 256 / 10_000))
    controller = AdaptiveKLController(0.2, target=6.0, horizon=10_000)
    controller.update(60.0, 256)  # error 9, clipped to 0.2
    assert controller.coefficient == pytest.approx(0.2 * (1 + 0.2 * 256 / 10_000))
    controller.update(0.0, 256)  # error -1, clipped to -0.2
    assert controller.coefficient == pytest.approx(0.2 * (1 + 0.00512) * (1 - 0.00512))
    before = controller.coefficient
    controller.update(math.nan, 256)
    assert controller.coefficient == before


def test_the_fixed_controller_stays_and_bad_settings_are_refused() -> None:
    controller = FixedKLController(0.05)
    controller.update(1000.0, 512)
    assert controller.coefficient == 0.05
    with pytest.raises(ValueError, match="coefficient"):
        FixedKLController(-0.1)
    with pytest.raises(ValueError, match="target"):
        AdaptiveKLController(0.2, target=0.0, horizon=100)
