from __future__ import annotations

import pytest
import torch

from hf_align.modeling import logps as module
from hf_align.modeling.logps import token_logps


@pytest.mark.parametrize("piece", [1, 40, 2**20])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_equals_log_softmax_and_its_gradient(
    piece: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(module.PIECE, "cpu", piece)
    torch.manual_seed(0)
    logits = (torch.randn(7, 19) * 4).to(dtype).requires_grad_()
    labels = torch.randint(0, 19, (7,))
    weights = torch.linspace(-1, 2, 7)
    ours, _ = token_logps(logits, labels)
    (gradient,) = torch.autograd.grad((ours * weights).sum(), logits)
    expected = torch.log_softmax(logits.float(), dim=1).gather(1, labels[:, None]).squeeze(1)
    (expected_gradient,) = torch.autograd.grad((expected * weights).sum(), logits)
    torch.testing.assert_close(ours, expected, rtol=1e-6, atol=1e-6)
    assert ours.dtype == torch.float32
    assert gradient.dtype == dtype
    torch.testing.assert_close(gradient, expected_gradient)


def test_by_hand_and_without_overflow() -> None:
    logits = torch.tensor([[0.0, 0.0], [1000.0, 998.0], [-1000.0, -1000.0]])
    logps, correct = token_logps(logits, torch.tensor([0, 1, 1]))
    # ln(1/2); -2 - ln(1 + e^-2); ln(1/2)
    assert logps.tolist() == pytest.approx([-0.693147, -2.126928, -0.693147], rel=1e-5)
    assert correct.tolist() == [True, False, True]


def test_gradient_by_finite_differences() -> None:
    logits = torch.randn(4, 6, dtype=torch.float64, requires_grad=True)
    # Computed in float32, so a coarse step and tolerance.
    assert torch.autograd.gradcheck(
        lambda x: token_logps(x, torch.tensor([0, 5, 2, 2]))[0].double(),
        logits,
        eps=1e-2,
        atol=1e-3,
        rtol=1e-2,
    )


def test_no_rows() -> None:
    logits = torch.empty(0, 5, requires_grad=True)
    logps, correct = token_logps(logits, torch.empty(0, dtype=torch.long))
    logps.sum().backward()
    assert logps.shape == correct.shape == (0,)
    assert logits.grad is not None
