"""What a loss refuses to be called with, and in which words."""

from __future__ import annotations

import math

import pytest
import torch

from hf_align.losses.checks import check_shapes, check_share, check_sign


def test_shapes_that_would_broadcast_are_refused() -> None:
    check_shapes(chosen=torch.zeros(3), rejected=torch.ones(3))
    with pytest.raises(ValueError, match=r"found old logps \(3,\), new \(3, 1\)"):
        check_shapes(old_logps=torch.zeros(3), new=torch.zeros(3, 1))


@pytest.mark.parametrize(("value", "zero"), [(-1.0, True), (0.0, False), (math.nan, True), (math.inf, False)])
def test_signs(value: float, zero: bool) -> None:
    check_sign("beta", 0.1, zero=zero)
    check_sign("beta", 0.0, zero=True)
    with pytest.raises(ValueError, match="beta: found"):
        check_sign("beta", value, zero=zero)


def test_shares() -> None:
    check_share("s", 1.0, upper=1.0)
    check_share("s", 0.0, below=0.5)
    for value, limits, words in (
        (1.1, {"upper": 1.0}, "at most 1"),
        (0.5, {"below": 0.5}, "below 0.5"),
        (-0.1, {"upper": 1.0}, "from 0"),
        (math.nan, {"below": 0.5}, "nan"),
    ):
        with pytest.raises(ValueError, match=words):
            check_share("s", value, **limits)
