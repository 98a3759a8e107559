from __future__ import annotations

import pytest
import torch

from hf_align.modeling.heads import logprobs as module
from hf_align.modeling.heads.logprobs import token_logps, token_logps_and_entropies


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


@pytest.mark.parametrize("piece", [1, 40, 2**20])
@pytest.mark.parametrize("temperature", [1.0, 0.4])
def test_temperature_and_entropies_and_their_gradients(
    piece: int, temperature: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(module.PIECE, "cpu", piece)
    torch.manual_seed(0)
    logits = (torch.randn(7, 19) * 4).requires_grad_()
    labels = torch.randint(0, 19, (7,))
    weights = torch.randn(2, 7)
    logps, correct, entropies = token_logps_and_entropies(logits, labels, temperature=temperature)
    (gradient,) = torch.autograd.grad((torch.stack([logps, entropies]) * weights).sum(), logits)
    scaled = logits / temperature
    expected = torch.log_softmax(scaled, dim=1).gather(1, labels[:, None]).squeeze(1)
    entropy = torch.distributions.Categorical(logits=scaled).entropy()
    (expected_gradient,) = torch.autograd.grad((torch.stack([expected, entropy]) * weights).sum(), logits)
    torch.testing.assert_close(logps, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(entropies, entropy, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-4, atol=1e-5)
    assert torch.equal(correct, logits.argmax(dim=1) == labels)
    alone, _ = token_logps(logits, labels, temperature=temperature)
    assert torch.equal(alone, logps)


def test_entropies_of_certain_and_of_even_distributions() -> None:
    logits = torch.tensor([[0.0, 0.0, 0.0, 0.0], [1e4, 0.0, 0.0, 0.0]]).requires_grad_()
    _, _, entropies = token_logps_and_entropies(logits, torch.tensor([1, 1]))
    # ln 4, and nothing.
    assert entropies.tolist() == pytest.approx([1.386294, 0.0], abs=1e-6)
    entropies.sum().backward()
    assert torch.equal(logits.grad, torch.zeros(2, 4)), "both are at an extreme"
    masked = torch.tensor([[0.0, 0.0, float("-inf")]]).requires_grad_()
    _, _, entropies = token_logps_and_entropies(masked, torch.tensor([0]))
    assert entropies.item() == pytest.approx(0.693147)
    entropies.sum().backward()
    assert torch.isfinite(masked.grad).all()
