"""What the papers state about the losses for any numbers, their gradients, and their extremes."""

from __future__ import annotations

import math
from decimal import Decimal, localcontext

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_align.config.fields import specs_of
from hf_align.losses import (
    PAIRWISE_LOSSES,
    dpo_loss,
    hinge_loss,
    ipo_loss,
    orpo_loss,
    robust_dpo_loss,
    simpo_loss,
)
from hf_align.losses.preference import log1mexp
from hf_align.preference.recipe import PairwiseLossConfig
from hf_align.types import PairLogps

logps = st.floats(-300, 0).map(lambda value: round(value, 3))
betas = st.sampled_from([0.01, 0.1, 0.5, 1.0, 3.0])
shares = st.floats(0, 0.49)
lengths = st.integers(1, 60)
sides = st.tuples(logps, logps)


def one(side: tuple[float, float], length: tuple[int, int] = (1, 1)) -> PairLogps:
    """One pair with the log-probabilities ``side``, in float64."""
    sums = (torch.tensor([value], dtype=torch.float64) for value in side)
    return PairLogps(*sums, *(torch.tensor([value]) for value in length))


def swapped(pair: PairLogps | None) -> PairLogps | None:
    return pair and PairLogps(pair.rejected, pair.chosen, pair.rejected_length, pair.chosen_length)


@settings(deadline=None, max_examples=60)
@given(sides, sides, betas)
def test_robust_without_noise_is_dpo(policy, reference, beta) -> None:
    torch.testing.assert_close(
        robust_dpo_loss(one(policy), one(reference), beta=beta),
        dpo_loss(one(policy), one(reference), beta=beta),
    )


@settings(deadline=None, max_examples=60)
@given(sides, sides, betas, shares)
def test_robust_is_unbiased_under_flipped_labels(policy, reference, beta, share) -> None:
    ours, theirs = one(policy), one(reference)
    kept = robust_dpo_loss(ours, theirs, beta=beta, label_smoothing=share)
    flipped = robust_dpo_loss(swapped(ours), swapped(theirs), beta=beta, label_smoothing=share)
    # Its mean over the noise is the loss without noise; the terms it cancels bound the rounding.
    size = max(1.0, kept.abs().item(), flipped.abs().item())
    mean = (1 - share) * kept + share * flipped
    torch.testing.assert_close(mean, dpo_loss(ours, theirs, beta=beta), rtol=1e-9, atol=1e-12 * size)


@settings(deadline=None, max_examples=60)
@given(sides, sides, betas, st.floats(0, 1))
def test_conservative_dpo_is_a_mixture_over_both_orders(policy, reference, beta, share) -> None:
    ours, theirs = one(policy), one(reference)
    right = dpo_loss(ours, theirs, beta=beta)
    wrong = dpo_loss(swapped(ours), swapped(theirs), beta=beta)
    smoothed = dpo_loss(ours, theirs, beta=beta, label_smoothing=share)
    torch.testing.assert_close(smoothed, torch.lerp(right, wrong, share), rtol=1e-9, atol=1e-9)


@settings(deadline=None, max_examples=60)
@given(sides, sides, betas)
def test_reversing_a_pair_adds_beta_h(policy, reference, beta) -> None:
    # -log sigma(-x) = x - log sigma(x)
    ours, theirs = one(policy), one(reference)
    h = policy[0] - reference[0] - policy[1] + reference[1]
    difference = dpo_loss(swapped(ours), swapped(theirs), beta=beta) - dpo_loss(ours, theirs, beta=beta)
    assert difference.item() == pytest.approx(beta * h, abs=1e-9)


@settings(deadline=None, max_examples=60)
@given(sides, st.integers(2, 9), st.tuples(lengths, lengths), betas)
def test_means_per_token_do_not_depend_on_length(policy, times, length, beta) -> None:
    """The same answer written ``times`` times over, with the same mean log-probability per token."""
    short = one(policy, length)
    long = PairLogps(*(times * value for value in short))
    for loss in (
        lambda pair: ipo_loss(pair, None, beta=beta, reduction="mean"),
        lambda pair: simpo_loss(pair, beta=beta, gamma=0.3),
        lambda pair: orpo_loss(pair, beta=beta),
    ):
        torch.testing.assert_close(loss(short), loss(long), rtol=1e-9, atol=1e-9)


def test_the_sum_of_ipo_depends_on_length() -> None:
    short, long = one((-4.0, -6.0), (2, 2)), one((-8.0, -12.0), (4, 4))
    assert [ipo_loss(pair, None, beta=0.5, reduction="sum").item() for pair in (short, long)] == [1.0, 9.0]


@settings(deadline=None, max_examples=60)
@given(sides, betas, shares, st.sampled_from(["mean", "sum"]), st.tuples(lengths, lengths))
def test_at_start_is_the_loss_of_a_policy_that_is_its_reference(side, beta, share, reduction, length) -> None:
    settings_of = {"beta": beta, "label_smoothing": share, "reduction": reduction}
    defaults = specs_of(PairwiseLossConfig)
    same = one(side, length)
    for name, loss in PAIRWISE_LOSSES.items():
        if loss.at_start is None:
            continue
        keys = {key: key.removeprefix(f"{name}_") for key in loss.options}
        options = {short: settings_of.get(short, defaults[key].default) for key, short in keys.items()}
        if name == "exo_pair":
            options["label_smoothing"] = max(share, 1e-3)
        assert loss(same, same, **options).item() == pytest.approx(loss.at_start(**options), rel=1e-9)


def test_the_constants_at_start_by_hand() -> None:
    constants = {
        name: loss.at_start(beta=0.1) for name, loss in PAIRWISE_LOSSES.items() if loss.at_start is not None
    }
    ln2 = 0.6931471805599453
    by_hand = {"dpo": ln2, "robust": ln2, "hinge": 1.0, "ipo": 25.0, "nca_pair": 2 * ln2, "sppo_hard": 50.0}
    by_hand |= {"apo_zero": 1.0, "apo_down": 1.0, "discopop": (ln2 + 1) / 2}
    assert {name: constants[name] for name in by_hand} == by_hand
    # KL of (1/2, 1/2) from (0.9, 0.1): 0.5 ln(0.5 / 0.9) + 0.5 ln(0.5 / 0.1)
    assert PAIRWISE_LOSSES["exo_pair"].at_start(beta=0.1, label_smoothing=0.1) == pytest.approx(0.5108256)
    assert not {"simpo", "orpo"} & set(constants)


# Gradients.
ALL = {
    "dpo": lambda policy: dpo_loss(policy, None, beta=0.1),
    "cdpo": lambda policy: dpo_loss(policy, None, beta=0.1, label_smoothing=0.2),
    "robust": lambda policy: robust_dpo_loss(policy, None, beta=0.1, label_smoothing=0.2),
    "hinge": lambda policy: hinge_loss(policy, None, beta=0.1),
    "ipo": lambda policy: ipo_loss(policy, None, beta=0.1),
    "ipo sum": lambda policy: ipo_loss(policy, None, beta=0.1, reduction="sum"),
    "exo": lambda policy: PAIRWISE_LOSSES["exo_pair"](policy, None, beta=0.1, label_smoothing=0.1),
    "simpo": lambda policy: simpo_loss(policy, beta=2.0, gamma=0.5),
    "orpo": lambda policy: orpo_loss(policy, beta=0.1),
}


def gradients(name: str, chosen: float, rejected: float, *, length: int = 5) -> tuple[float, float, float]:
    """The loss and its derivatives by the two log-probabilities, in float32."""
    sums = [torch.tensor([value], requires_grad=True) for value in (chosen, rejected)]
    loss = ALL[name](PairLogps(*sums, torch.tensor([length]), torch.tensor([length])))
    assert loss.dtype == torch.float32
    by_chosen, by_rejected = torch.autograd.grad(loss.sum(), sums)
    return loss.item(), by_chosen.item(), by_rejected.item()


@pytest.mark.parametrize("name", ALL)
@settings(deadline=None, max_examples=30)
@given(st.floats(-30, -1), st.floats(-4, 4))
def test_a_step_raises_the_chosen_answer_and_lowers_the_rejected_one(name, rejected, h) -> None:
    """For differences that none of the losses takes for large enough (h < 1 / (2 beta), here 5)."""
    _, by_chosen, by_rejected = gradients(name, min(rejected + h, -0.01), rejected)
    assert by_chosen < 0 < by_rejected


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("chosen", [0.0, -1e-30, -1e-6, -1e4, -1e6])
@pytest.mark.parametrize("rejected", [0.0, -1e-30, -1e-6, -1e4, -1e6])
def test_extremes_are_finite(name: str, chosen: float, rejected: float) -> None:
    assert all(math.isfinite(value) for value in gradients(name, chosen, rejected))


def test_large_margins_become_linear_and_not_infinite() -> None:
    loss, by_chosen, _ = gradients("dpo", -1e5, -10.0)
    assert loss == pytest.approx(0.1 * (1e5 - 10))
    assert by_chosen == pytest.approx(-0.1)


def test_a_satisfied_hinge_has_no_gradient() -> None:
    assert gradients("hinge", -1.0, -12.0) == (0.0, 0.0, 0.0)


def test_ipo_pulls_back_what_is_too_far_apart() -> None:
    _, by_chosen, by_rejected = gradients("ipo", -10.0, -60.0)  # 10 nats per token apart; 5 are wanted
    assert (by_chosen, by_rejected) == (pytest.approx(2.0), pytest.approx(-2.0))


def test_conservative_dpo_stops_where_the_pair_is_as_likely_as_its_label() -> None:
    """sigma(beta h) = 1 - epsilon: with 0.2 and beta 0.1, h = 10 ln 4."""
    _, by_chosen, by_rejected = gradients("cdpo", -10.0, -10.0 - 10 * math.log(4))
    assert (by_chosen, by_rejected) == (pytest.approx(0.0, abs=1e-7), pytest.approx(0.0, abs=1e-7))
    assert gradients("cdpo", -10.0, -60.0)[1] > 0


@pytest.mark.parametrize("distance", [1e-3, 1e-5, 1e-6])
def test_odds_near_certainty_keep_their_digits(distance: float) -> None:
    """p = 1 - d has the odds (1 - d) / d; against odds of 1 the loss is ln(1 + (1 - d) / d) = -ln d."""
    policy = PairLogps(
        torch.tensor([math.log(0.5)]), torch.tensor([math.log1p(-distance)]), *[torch.ones(1)] * 2
    )
    assert orpo_loss(policy, beta=1.0).item() == pytest.approx(-math.log(distance), rel=2e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("x", [-1e-12, -1e-7, -1e-3, -0.69, -0.7, -2.0, -20.0, -80.0])
def test_log1mexp_against_decimal_arithmetic(x: float, dtype: torch.dtype) -> None:
    point = torch.tensor(x, dtype=dtype, requires_grad=True)
    with localcontext() as context:
        context.prec = 60
        exact = Decimal(point.item())
        expected = (1 - exact.exp()).ln()
        slope = -exact.exp() / (1 - exact.exp())
    value = log1mexp(point)
    value.backward()
    precision = 8 * torch.finfo(dtype).eps
    assert value.item() == pytest.approx(float(expected), rel=precision)
    assert point.grad.item() == pytest.approx(float(slope), rel=precision)
