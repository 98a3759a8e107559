from __future__ import annotations

import dataclasses
import inspect
import math

import pytest
import torch

from hf_align.losses import (
    PAIRWISE_LOSSES,
    PairwiseLoss,
    dpo_loss,
    hinge_loss,
    ipo_loss,
    log_ratios,
    orpo_loss,
    robust_dpo_loss,
    simpo_loss,
)
from hf_align.types import PairLogps


def pairs(chosen: list[float], rejected: list[float], *lengths: list[int]) -> PairLogps:
    """In float64, so that expected values can be written down to nine digits."""
    chosen_length, rejected_length = lengths or ([1] * len(chosen), [1] * len(chosen))
    return PairLogps(
        torch.tensor(chosen, dtype=torch.float64),
        torch.tensor(rejected, dtype=torch.float64),
        torch.tensor(chosen_length),
        torch.tensor(rejected_length),
    )


# The first pair has log-ratios 1 and -2, so h = 3; the second has the same log-ratio twice, so h = 0.
POLICY = pairs([-10.0, -6.0], [-14.0, -9.0], [4, 3], [8, 6])
REFERENCE = pairs([-11.0, -8.0], [-12.0, -11.0], [4, 3], [8, 6])


def values(result: torch.Tensor) -> list[float]:
    assert result.shape == (2,)
    return [pytest.approx(value, abs=1e-7) for value in result.tolist()]


def test_log_ratios_by_hand() -> None:
    chosen, rejected = log_ratios(POLICY, REFERENCE)
    assert (chosen.tolist(), rejected.tolist()) == ([1.0, 2.0], [-2.0, 2.0])
    chosen, rejected = log_ratios(POLICY, None)
    assert (chosen.tolist(), rejected.tolist()) == ([-10.0, -6.0], [-14.0, -9.0])


def test_dpo_by_hand() -> None:
    # ln(1 + e^-1.5) and ln 2
    assert values(dpo_loss(POLICY, REFERENCE, beta=0.5)) == [0.20141328, 0.69314718]
    # Reference-free: h = 4 and 3; ln(1 + e^-2) and ln(1 + e^-1.5)
    assert values(dpo_loss(POLICY, None, beta=0.5)) == [0.12692801, 0.20141328]


def test_conservative_dpo_by_hand() -> None:
    # 0.9 ln(1 + e^-1.5) + 0.1 ln(1 + e^1.5)
    assert values(dpo_loss(POLICY, REFERENCE, beta=0.5, label_smoothing=0.1)) == [0.35141328, 0.69314718]


def test_robust_by_hand() -> None:
    # (0.9 ln(1 + e^-1.5) - 0.1 ln(1 + e^1.5)) / 0.8 = ln(1 + e^-1.5) - 0.1875
    assert values(robust_dpo_loss(POLICY, REFERENCE, beta=0.5, label_smoothing=0.1)) == [
        0.01391328,
        0.69314718,
    ]


def test_hinge_by_hand() -> None:
    assert values(hinge_loss(POLICY, REFERENCE, beta=0.1)) == [0.7, 1.0]
    assert values(hinge_loss(POLICY, REFERENCE, beta=0.5)) == [0.0, 1.0]


def test_ipo_by_hand() -> None:
    # (3 - 1)^2 and (0 - 1)^2
    assert values(ipo_loss(POLICY, REFERENCE, beta=0.5, reduction="sum")) == [4.0, 1.0]
    # 1/4 + 2/8 = 1/2 and 2/3 - 2/6 = 1/3, each minus 1, squared
    assert values(ipo_loss(POLICY, REFERENCE, beta=0.5, reduction="mean")) == [0.25, 4 / 9]
    assert values(ipo_loss(POLICY, REFERENCE, beta=0.5)) == [0.25, 4 / 9]


def test_simpo_by_hand() -> None:
    # Means per token -2.5 and -1.75, then -2 and -1.5: 2 (-0.75) - 0.5 = -2 and 2 (-0.5) - 0.5 = -1.5
    assert values(simpo_loss(POLICY, beta=2.0, gamma=0.5)) == [2.12692801, 1.70141328]


def test_orpo_by_hand() -> None:
    # Mean probabilities 1/2 and 1/5: odds 1 and 1/4, so ln(1 + 1/4) / 10. Then 1/5 and 1/2: ln(1 + 4) / 10.
    half, fifth = math.log(1 / 2), math.log(1 / 5)
    policy = pairs([3 * half, 2 * fifth], [2 * fifth, 4 * half], [3, 2], [2, 4])
    assert values(orpo_loss(policy, beta=0.1)) == [0.022314355, 0.160943791]


@pytest.mark.parametrize("options", [{"reduction": "mean"}, {"reduction": "sum"}])
def test_the_target_of_ipo_is_half_of_one_over_beta(options: dict[str, str]) -> None:
    policy = pairs([5.0, 5.0], [3.0, 1.0])
    assert ipo_loss(policy, None, beta=0.25, **options).tolist() == [0.0, 4.0]


@pytest.mark.parametrize("b", [0.1, 0.5, 2.0])
def test_reference_free_ipo_of_study_notes(b: float) -> None:
    expected = [((-10.0 + 14.0) - 1 / b) ** 2, ((-6.0 + 9.0) - 1 / b) ** 2]
    assert ipo_loss(POLICY, None, beta=b / 2, reduction="sum").tolist() == pytest.approx(expected)


def test_an_answer_without_tokens_is_taken_as_one_token_long() -> None:
    policy = pairs([0.0], [-3.0], [0], [2])
    # (0 + 3/2 - 1)^2, ln(1 + e^-1.5)
    assert ipo_loss(policy, None, beta=0.5).tolist() == [0.25]
    assert simpo_loss(policy, beta=1.0, gamma=0.0).tolist() == pytest.approx([0.20141328])


# The table.
def test_every_entry_names_the_options_of_its_function() -> None:
    for name, loss in PAIRWISE_LOSSES.items():
        parameters = inspect.signature(loss.function).parameters.values()
        keywords = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
        over = ["among"] if loss.over_step else []
        assert [key.removeprefix(f"{name}_") for key in loss.options] + over == keywords
        positional = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
        assert positional == (["policy", "reference"] if loss.uses_reference else ["policy"])


def test_an_entry_is_called_like_its_function_and_cannot_be_changed() -> None:
    loss = PAIRWISE_LOSSES["dpo"]
    assert isinstance(loss, PairwiseLoss)
    torch.testing.assert_close(loss(POLICY, None, beta=0.3), dpo_loss(POLICY, None, beta=0.3))
    with pytest.raises(dataclasses.FrozenInstanceError):
        loss.uses_reference = False  # type: ignore[misc]


# Mistakes.
@pytest.mark.parametrize("beta", [0.0, -0.1, math.nan, math.inf])
@pytest.mark.parametrize("name", PAIRWISE_LOSSES)
def test_beta_must_be_positive(name: str, beta: float) -> None:
    loss = PAIRWISE_LOSSES[name]
    given_to = (POLICY, REFERENCE) if loss.uses_reference else (POLICY,)
    options = {"gamma": 0.1} if name == "simpo" else {}
    with pytest.raises(ValueError, match="beta: found"):
        loss(*given_to, beta=beta, **options)


@pytest.mark.parametrize("share", [-0.1, 0.5, 1.0, math.nan])
def test_robust_needs_a_share_below_one_half(share: float) -> None:
    with pytest.raises(ValueError, match=r"label_smoothing: found .* below 0\.5"):
        robust_dpo_loss(POLICY, REFERENCE, beta=0.1, label_smoothing=share)


@pytest.mark.parametrize("share", [-0.1, 1.1, math.nan])
def test_dpo_needs_a_share(share: float) -> None:
    with pytest.raises(ValueError, match=r"label_smoothing: found .* at most 1"):
        dpo_loss(POLICY, REFERENCE, beta=0.1, label_smoothing=share)


def test_an_unknown_reduction_is_named() -> None:
    with pytest.raises(ValueError, match="'average', expected 'mean' or 'sum'"):
        ipo_loss(POLICY, REFERENCE, beta=0.1, reduction="average")


@pytest.mark.parametrize("gamma", [-0.5, math.nan])
def test_gamma_cannot_be_negative(gamma: float) -> None:
    with pytest.raises(ValueError, match="gamma: found"):
        simpo_loss(POLICY, beta=2.0, gamma=gamma)


@pytest.mark.parametrize("name", PAIRWISE_LOSSES)
def test_shapes_must_be_equal(name: str) -> None:
    loss = PAIRWISE_LOSSES[name]
    options = {"beta": 0.1} | ({"gamma": 0.1} if name == "simpo" else {})
    column = POLICY._replace(rejected=POLICY.rejected.unsqueeze(1))
    with pytest.raises(ValueError, match=r"one shape, found .*rejected \(2, 1\)"):
        loss(*((column, None) if loss.uses_reference else (column,)), **options)
    if loss.uses_reference:
        with pytest.raises(ValueError, match=r"policy \(2,\), reference chosen \(1,\)"):
            loss(POLICY, pairs([-1.0], [-2.0]), **options)
