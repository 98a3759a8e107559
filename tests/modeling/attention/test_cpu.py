"""Blocked attention against the textbook formula: values, gradients, windows, grouped heads, precision."""

from __future__ import annotations

import pytest
import torch

from hf_align.modeling.attention import cpu
from hf_align.modeling.attention.cpu import blocked_causal_attention


def textbook(q, k, v, scale: float, window: int | None) -> torch.Tensor:
    repeat, prefix = q.shape[0] // k.shape[0], k.shape[1] - q.shape[1]
    k, v = k.repeat_interleave(repeat, 0), v.repeat_interleave(repeat, 0)
    distance = prefix + torch.arange(q.shape[1])[:, None] - torch.arange(k.shape[1])[None, :]
    allowed = (distance >= 0) if window is None else (distance >= 0) & (distance < window)
    scores = (q @ k.transpose(-1, -2) * scale).masked_fill(~allowed, float("-inf"))
    return scores.softmax(-1) @ v


def distance(result: torch.Tensor, expected: torch.Tensor) -> float:
    return float((result.float() - expected).norm() / expected.norm())


@pytest.mark.parametrize("block", [4, 8, 256])
@pytest.mark.parametrize("heads", [(4, 4), (6, 2), (3, 1)])
@pytest.mark.parametrize("window", [None, 1, 3, 7, 50])
@pytest.mark.parametrize("length", [1, 8, 21])
@pytest.mark.parametrize("prefix", [0, 1, 13])
def test_values_and_gradients(
    block: int, heads: tuple[int, int], window, length: int, prefix: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu, "BLOCK", block)
    torch.manual_seed(0)
    q = torch.randn(heads[0], length, 8, requires_grad=True)
    k, v = (torch.randn(heads[1], prefix + length, 8, requires_grad=True) for _ in range(2))
    upstream = torch.randn(heads[0], length, 8)
    ours = blocked_causal_attention(q, k, v, scaling=0.6, sliding_window=window)
    expected = textbook(q, k, v, 0.6, window)
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-6)
    gradients = torch.autograd.grad((ours * upstream).sum(), (q, k, v))
    expected_gradients = torch.autograd.grad((expected * upstream).sum(), (q, k, v))
    for gradient, reference in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(gradient, reference, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("window", [None, 1, 7, 40])
@pytest.mark.parametrize(("length", "prefix"), [(1, 1), (21, 0), (21, 13), (70, 200), (300, 45)])
def test_few_lengths_of_keys_change_nothing(
    length: int, prefix: int, window, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    monkeypatch.setattr(cpu, "BLOCK", 64)
    q = torch.randn(6, length, 8, requires_grad=True)
    k, v = (torch.randn(2, prefix + length, 8, requires_grad=True) for _ in range(2))
    upstream = torch.randn(6, length, 8)
    results = []
    for few in (False, True):
        monkeypatch.setattr(cpu, "compiles", lambda states, few=few: few)
        output = blocked_causal_attention(q, k, v, sliding_window=window)
        results.append((output, *torch.autograd.grad((output * upstream).sum(), (q, k, v))))
    for plain, filled in zip(*results, strict=True):
        torch.testing.assert_close(filled, plain, rtol=1e-5, atol=1e-5)


def test_large_scores_do_not_overflow() -> None:
    q = torch.full((1, 3, 2), 100.0)
    output = blocked_causal_attention(q, q, q, scaling=1.0)
    torch.testing.assert_close(output, q)


def test_autocast_computes_in_its_type_and_keeps_the_accuracy_of_a_float32_softmax() -> None:
    torch.manual_seed(0)
    q, k, v = (torch.randn(4, 300, 16) for _ in range(3))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = blocked_causal_attention(q, k, v)
    assert output.dtype == torch.bfloat16
    assert distance(output, textbook(q, k, v, 0.25, None)) < 0.01


@pytest.mark.parametrize("window", [None, 90])
def test_gradients_in_bf16_are_as_near_as_the_type_allows(window: int | None) -> None:
    torch.manual_seed(0)
    exact = [torch.randn(heads, 300, 16).bfloat16().float().requires_grad_() for heads in (4, 2, 2)]
    upstream = torch.randn(4, 300, 16).bfloat16()
    expected = torch.autograd.grad(textbook(*exact, 0.25, window), exact, upstream.float())
    half = [x.detach().bfloat16().requires_grad_() for x in exact]
    gradients = torch.autograd.grad(blocked_causal_attention(*half, sliding_window=window), half, upstream)
    for gradient, reference in zip(gradients, expected, strict=True):
        assert gradient.dtype == torch.bfloat16
        assert distance(gradient, reference) < 0.01


def test_saved_memory_grows_with_the_length_not_its_square() -> None:
    def saved(length: int) -> int:
        sizes: list[int] = []
        x = torch.randn(2, length, 8, requires_grad=True)
        with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
            blocked_causal_attention(x, x, x)
        return sum(sizes)

    assert saved(800) == 2 * saved(400)
