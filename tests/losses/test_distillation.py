"""Divergences of student and teacher: by hand, at the ends, against TRL's, and what must not break them."""

from __future__ import annotations

import math

import pytest
import torch

from hf_align.losses import generalized_jsd

# Two tokens: the student gives 1/2 and 1/2, the teacher 3/4 and 1/4.
STUDENT = torch.tensor([[math.log(0.5), math.log(0.5)]])
TEACHER = torch.tensor([[math.log(0.75), math.log(0.25)]])


@pytest.mark.parametrize(
    ("beta", "expected"),
    [
        (0.0, 0.75 * math.log(1.5) + 0.25 * math.log(0.5)),
        (1.0, 0.5 * math.log(2 / 3) + 0.5 * math.log(2)),
        # The mixture is 5/8 and 3/8.
        (
            0.5,
            0.5 * (0.75 * math.log(0.75 / 0.625) + 0.25 * math.log(0.25 / 0.375))
            + 0.5 * (0.5 * math.log(0.5 / 0.625) + 0.5 * math.log(0.5 / 0.375)),
        ),
    ],
)
def test_by_hand(beta: float, expected: float) -> None:
    assert generalized_jsd(STUDENT, TEACHER, beta=beta).item() == pytest.approx(expected, rel=1e-5)


def test_the_ends_are_no_limits_but_for_a_factor() -> None:
    forward, reverse = (generalized_jsd(STUDENT, TEACHER, beta=beta).item() for beta in (0.0, 1.0))
    near_zero = generalized_jsd(STUDENT.double(), TEACHER.double(), beta=1e-3).item()
    near_one = generalized_jsd(STUDENT.double(), TEACHER.double(), beta=1 - 1e-3).item()
    assert near_zero < 1e-3 and near_zero / 1e-3 == pytest.approx(forward, rel=0.02)
    assert near_one < 1e-3 and near_one / 1e-3 == pytest.approx(reverse, rel=0.02)


def test_equal_distributions_do_not_diverge_and_the_middle_is_symmetric() -> None:
    torch.manual_seed(0)
    one, other = torch.randn(2, 3, 7), torch.randn(2, 3, 7)
    for beta in (0.0, 0.3, 1.0):
        torch.testing.assert_close(
            generalized_jsd(one, one + 4.0, beta=beta), torch.zeros(2, 3), atol=1e-6, rtol=0
        )
    torch.testing.assert_close(generalized_jsd(one, other, beta=0.5), generalized_jsd(other, one, beta=0.5))
    assert (generalized_jsd(one, other, beta=0.5) <= math.log(2)).all()


@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
def test_temperature_divides_both(beta: float) -> None:
    torch.manual_seed(1)
    one, other = torch.randn(4, 5), torch.randn(4, 5)
    torch.testing.assert_close(
        generalized_jsd(one, other, beta=beta, temperature=2.0),
        generalized_jsd(one / 2, other / 2, beta=beta),
    )


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
def test_tokens_of_no_probability_add_nothing(beta: float) -> None:
    masked = torch.tensor([[0.0, 1.0, -math.inf]])
    plain = torch.tensor([[0.0, 0.5, -math.inf]])
    found = generalized_jsd(masked.requires_grad_(), plain, beta=beta)
    torch.testing.assert_close(found, generalized_jsd(masked[:, :2], plain[:, :2], beta=beta))
    found.sum().backward()
    assert masked.grad is not None and torch.isfinite(masked.grad).all()


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match=r"beta: found 1.5"):
        generalized_jsd(STUDENT, TEACHER, beta=1.5)
    with pytest.raises(ValueError, match="temperature: found 0"):
        generalized_jsd(STUDENT, TEACHER, beta=0.5, temperature=0.0)
    with pytest.raises(ValueError, match="shape"):
        generalized_jsd(STUDENT, TEACHER[:, :1], beta=0.5)
