from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_align.losses import kl_estimate

KINDS = ("k1", "k2", "k3")


def test_by_hand() -> None:
    # Log-ratios pi_ref / pi: ln 2, -ln 2, 0
    logps, reference = torch.tensor([[0.25, 0.5, 0.3]]).log(), torch.tensor([[0.5, 0.25, 0.3]]).log()
    expected = {
        "k1": [-0.693147181, 0.693147181, 0.0],
        "k2": [0.240226507, 0.240226507, 0.0],
        "k3": [2 - 1 - 0.693147181, 0.5 - 1 + 0.693147181, 0.0],
    }
    for kind, values in expected.items():
        estimate = kl_estimate(logps, reference, kind=kind)
        assert estimate.shape == (1, 3)
        assert estimate[0].tolist() == pytest.approx(values, abs=1e-6)
    assert torch.equal(kl_estimate(logps, reference), kl_estimate(logps, reference, kind="k1"))


def distributions(seed: int, scale: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Two distributions over nine tokens as log-probabilities, in float64."""
    logits = scale * torch.randn(2, 9, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    policy, reference = logits.log_softmax(dim=-1)
    return policy, reference


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6), st.floats(0.1, 3))
def test_k1_and_k3_have_the_divergence_as_their_mean(seed: int, scale: float) -> None:
    policy, reference = distributions(seed, scale)
    exact = torch.nn.functional.kl_div(reference, policy, log_target=True, reduction="sum")
    for kind in ("k1", "k3"):
        mean = (policy.exp() * kl_estimate(policy, reference, kind=kind)).sum()
        assert mean.item() == pytest.approx(exact.item(), rel=1e-9, abs=1e-12)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6))
def test_k2_is_close_where_the_models_are(seed: int) -> None:
    policy, reference = distributions(seed, 0.01)
    exact = torch.nn.functional.kl_div(reference, policy, log_target=True, reduction="sum")
    mean = (policy.exp() * kl_estimate(policy, reference, kind="k2")).sum()
    assert mean.item() == pytest.approx(exact.item(), rel=0.05)


@settings(deadline=None, max_examples=100)
@given(st.floats(-200, 0), st.floats(-200, 0))
def test_k2_and_k3_are_never_negative(logp: float, reference_logp: float) -> None:
    for kind in ("k2", "k3"):
        estimate = kl_estimate(torch.tensor([logp]), torch.tensor([reference_logp]), kind=kind)
        # Rounding may leave k3 an ulp of its log-ratio below 0.
        assert estimate.item() >= -1e-7 * abs(logp - reference_logp)


def test_small_log_ratios_keep_their_digits() -> None:
    """k3 = d^2 / 2 + d^3 / 6 + …; exp(d) - 1 in float32 would round d = 0.001 to four digits."""
    zero = torch.zeros(1)
    assert kl_estimate(zero, zero + 1e-3, kind="k3").item() == pytest.approx(5.001667e-7, rel=1e-3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("logp", "reference_logp"), [(-500.0, 0.0), (0.0, -500.0), (-1e4, -1e4)])
def test_extremes_are_finite(kind: str, logp: float, reference_logp: float) -> None:
    logps = torch.full((1, 1000), logp, requires_grad=True)
    total = kl_estimate(logps, torch.full((1, 1000), reference_logp), kind=kind).sum()
    total.backward()
    assert torch.isfinite(total)
    assert torch.isfinite(logps.grad).all()


def test_the_gradient_of_k2_is_that_of_the_divergence_on_samples() -> None:
    """d/dtheta KL = E[log(pi / pi_ref) d log pi]; k1's own derivative has the mean 0."""
    logits = torch.tensor([0.3, -1.0, 0.7, 0.1], dtype=torch.float64, requires_grad=True)
    reference = torch.tensor([0.1, 0.2, -0.5, 0.4], dtype=torch.float64).log_softmax(dim=0)
    policy = logits.log_softmax(dim=0)
    exact = torch.nn.functional.kl_div(reference, policy, log_target=True, reduction="sum")
    (wanted,) = torch.autograd.grad(exact, logits, retain_graph=True)
    means = {}
    for kind in ("k1", "k2"):
        weighted = (policy.detach().exp() * kl_estimate(policy, reference, kind=kind)).sum()
        (means[kind],) = torch.autograd.grad(weighted, logits, retain_graph=True)
    torch.testing.assert_close(means["k2"], wanted)
    torch.testing.assert_close(means["k1"], torch.zeros(4, dtype=torch.float64))


def test_mistakes_are_named() -> None:
    zeros = torch.zeros(2, 3)
    with pytest.raises(ValueError, match="kind: found 'k4'"):
        kl_estimate(zeros, zeros, kind="k4")
    with pytest.raises(ValueError, match=r"logps \(2, 3\), reference logps \(1, 3\)"):
        kl_estimate(zeros, zeros[:1])
