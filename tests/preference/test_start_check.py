"""A policy that begins as its own reference has the loss that theory gives; everything else is named."""

from __future__ import annotations

import math
from typing import Any

import pytest

from hf_align.errors import UserError
from hf_align.preference.start_check import StartCheck, check_start, reasons_against

LN2 = math.log(2)


@pytest.mark.parametrize(
    ("found", "expected", "precision"),
    [
        (LN2, LN2, "fp32"),
        (LN2 + 0.99e-4, LN2, "fp32"),
        (LN2 - 1.99e-2, LN2, "bf16"),
        (LN2 + 1.99e-2, LN2, "fp16"),
        # IPO with beta 0.1 begins at 25: the tolerance is relative there.
        (25 - 2.4e-3, 25.0, "fp32"),
        (25 + 0.49, 25.0, "bf16"),
        (1e-3 + 0.99e-4, 1e-3, "fp32"),
    ],
)
def test_rounding_is_let_through(found: float, expected: float, precision: Any) -> None:
    check_start(found, expected, precision=precision, where="the rows")


@pytest.mark.parametrize(
    ("found", "expected", "precision"),
    [
        (LN2 + 1.01e-4, LN2, "fp32"),
        (LN2 - 2.01e-2, LN2, "bf16"),
        (25 - 2.6e-3, 25.0, "fp32"),
        (25 + 0.51, 25.0, "fp16"),
        (1e-3 - 1.01e-4, 1e-3, "fp32"),
        (math.nan, LN2, "bf16"),
        (math.inf, 1.0, "fp32"),
    ],
)
def test_what_is_not_rounding_stops_the_run(found: float, expected: float, precision: Any) -> None:
    with pytest.raises(UserError) as caught:
        check_start(found, expected, precision=precision, where="the rows of the first step")
    message = str(caught.value)
    assert f"is {found:.6g}, " in message and f"must be {expected:.6g}" in message
    for part in (
        "the rows of the first step",
        precision,
        "template",
        "dropout",
        "reference_cache",
        "adapter",
    ):
        assert part in message


def test_the_message_gives_both_numbers() -> None:
    with pytest.raises(UserError, match=r"is 0\.75, .* must be 0\.693147 \(off by 0\.057, at most 0\.0001"):
        check_start(0.75, LN2, precision="fp32", where="the rows")


def test_why_there_is_nothing_to_compare_with() -> None:
    plain = {"losses": ["dpo"], "constant": LN2, "reference_free": False, "ref_model": None}
    assert reasons_against(**plain) == []
    assert "reference-free" in reasons_against(**{**plain, "reference_free": True})[0]
    assert "other-model" in reasons_against(**{**plain, "ref_model": "other-model"})[0]
    (reason,) = reasons_against(**{**plain, "losses": ["dpo", "simpo"], "constant": None})
    assert "dpo, simpo" in reason


def test_a_good_start_is_noted() -> None:
    kept: list[dict[str, Any]] = []
    check = StartCheck(1.0, "bf16", saved=lambda record: kept.append(dict(record)))
    assert kept == [{"checked": False, "expected": 1.0, "found": {}}]
    check.evaluation({"eval_pairwise_loss": 1.001, "eval_loss": 7.0})
    check.first_step({"pairwise_loss": 0.999})
    assert kept[-1] == {
        "checked": True,
        "expected": 1.0,
        "found": {"held-out rows": 1.001, "first step": 0.999},
    }


@pytest.mark.parametrize("when", ["evaluation", "first_step"])
def test_a_wrong_start_stops_the_run_and_leaves_its_metric(when: str) -> None:
    check = StartCheck(LN2, "fp32")
    with pytest.raises(UserError, match="not the model that training starts from"):
        getattr(check, when)({"pairwise_loss": 0.7, "eval_pairwise_loss": 0.7})
    assert list(check.record["found"].values()) == [0.7]


def test_noise_spoils_the_first_step_only(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "hf_align")
    check = StartCheck(LN2, "fp32", noise=["hidden_dropout_prob"])
    check.first_step({"pairwise_loss": 3.0})
    assert "hidden_dropout_prob in the forward pass" in caplog.text
    assert check.record["first step"] == "not checked: hidden_dropout_prob in the forward pass"
    with pytest.raises(UserError, match="held-out"):
        check.evaluation({"eval_pairwise_loss": 3.0})


def test_what_is_not_checked_is_said(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "hf_align")
    check = StartCheck(LN2, "fp32", reasons=["the run is resumed", "another reason"])
    check.evaluation({"eval_pairwise_loss": 3.0})
    check.first_step({"pairwise_loss": 3.0})
    assert check.record == {"checked": False, "why": "the run is resumed; another reason"}
    assert "not compared with theory: the run is resumed; another reason" in caplog.text
