"""AOT: a part of the pairs, told of all of them, has its part of the loss and of the gradient."""

from __future__ import annotations

import pytest
import torch

from hf_align.losses import aot_loss, aot_unpaired_loss
from hf_align.types import PairLogps

LOSSES = [aot_loss, aot_unpaired_loss]


def pairs(values: torch.Tensor) -> PairLogps:
    ones = torch.ones(len(values), dtype=torch.long)
    return PairLogps(values[:, 0], values[:, 1], ones, ones)


@pytest.mark.parametrize("loss", LOSSES)
def test_by_hand(loss) -> None:
    policy = pairs(torch.tensor([[3.0, 0.0], [1.0, 0.0]]))
    reference = pairs(torch.tensor([[0.0, 0.0], [2.0, 0.0]]))
    # aot: margins 3 and 1 against 2 and 0, by rank. aot_unpaired: log-ratios 3 and -1 against 0 and 0.
    differences = [1.0, 1.0] if loss is aot_loss else [3.0, -1.0]
    expected = sum(-torch.nn.functional.logsigmoid(torch.tensor(d)).item() for d in differences)
    assert loss(policy, reference, beta=1.0).sum().item() == pytest.approx(expected)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("noise", [0.0, 1e-6])
def test_parts_add_up_to_the_whole(loss, noise: float) -> None:
    generator = torch.Generator().manual_seed(0)
    values, reference = (torch.randn(9, 2, generator=generator).double() for _ in range(2))
    if not noise:
        values[4], reference[4] = values[3], reference[3]
    whole = values.clone().requires_grad_()
    total = loss(pairs(whole), pairs(reference), beta=0.7, label_smoothing=0.1).sum()
    (gradient,) = torch.autograd.grad(total, whole)
    among = torch.cat([values, reference], dim=1) + noise * torch.randn(9, 4, generator=generator)
    parts, summed = values.clone().requires_grad_(), 0.0
    for some in (slice(0, 2), slice(2, 6), slice(6, 9)):
        summed = (
            summed
            + loss(
                pairs(parts[some]), pairs(reference[some]), beta=0.7, label_smoothing=0.1, among=among
            ).sum()
        )
    (cut,) = torch.autograd.grad(summed, parts)
    torch.testing.assert_close(summed, total, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(cut, gradient, rtol=1e-4, atol=1e-5)


def test_a_model_that_is_its_reference_starts_at_ln_2() -> None:
    values = torch.randn(6, 2, generator=torch.Generator().manual_seed(1))
    for loss in LOSSES:
        assert loss(pairs(values), pairs(values), beta=0.5).tolist() == pytest.approx([0.6931472] * 6)
