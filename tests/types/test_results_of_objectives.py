"""What an objective returns."""

from __future__ import annotations

import torch

from hf_align.types import LossOutput, PairLogps


def test_a_loss_keeps_its_gradient_and_outputs_do_not_share_their_metrics() -> None:
    weight = torch.tensor(2.0, requires_grad=True)
    one, other = LossOutput(loss_sum=3 * weight, count=4), LossOutput(loss_sum=weight, count=1)
    (one.loss_sum / one.count).backward()
    assert weight.grad == 0.75
    one.metrics["x"] = weight
    assert other.metrics == {} and one.details == {}


def test_pairs_are_named_and_in_order() -> None:
    pair = PairLogps(*(torch.full((2,), float(value)) for value in range(4)))
    assert pair._fields == ("chosen", "rejected", "chosen_length", "rejected_length")
    assert [float(values[0]) for values in pair] == [0, 1, 2, 3]
