"""SpanBERT's two losses add up with equal weight."""

from __future__ import annotations

import torch

from hf_align.pretraining.objectives.span_boundary import span_boundary_lm


def test_by_hand() -> None:
    logps = torch.tensor([-1.0, -2.0], requires_grad=True)
    boundary = torch.tensor([-0.5, -0.25], requires_grad=True)
    output = {
        "logps": logps,
        "boundary_logps": boundary,
        "correct": torch.tensor([True, True]),
        "boundary_correct": torch.tensor([False, True]),
    }
    found = span_boundary_lm(lambda **_: output, {})
    assert found.loss_sum.item() == 3.75 and found.count == 2
    assert {name: float(value) for name, value in found.metrics.items()} == {
        "mlm_loss": 3.0, "boundary_loss": 0.75, "correct": 2.0, "boundary_correct": 1.0
    }  # fmt: skip
    found.loss_sum.backward()
    assert logps.grad.tolist() == boundary.grad.tolist() == [-1.0, -1.0]
