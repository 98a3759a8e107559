"""The error of a user's mistake, and the nearest valid name in it."""

from __future__ import annotations

import pytest

from hf_align.errors import UserError, did_you_mean, without_controls


@pytest.mark.parametrize(
    ("found", "valid", "answer"),
    [
        ("lerning_rate", ["max_steps", "learning_rate"], " Did you mean 'learning_rate'?"),
        ("beta", {"betas": 1, "beta_2": 2}, " Did you mean 'betas'?"),
        ("xyz", ["learning_rate"], ""),
        ("x", [], ""),
    ],
)
def test_the_nearest_name(found: str, valid: list[str], answer: str) -> None:
    assert did_you_mean(found, valid) == answer


def test_it_is_no_error_of_python_that_other_code_would_catch() -> None:
    assert UserError.__mro__[1] is Exception and str(UserError("r.yaml:3: x")) == "r.yaml:3: x"


@pytest.mark.parametrize(
    ("found", "valid", "meant"),
    [
        ("stf", ["sft", "dpo"], "sft"),
        ("humam", ["human", "system"], "human"),
        ("datset", ["datasets", "max_steps"], "datasets"),
        ("block_size", ["boft_block_size", "bias"], "boft_block_size"),
        ("base_model", ["load_best_model_at_end", "ref_model_name_or_path"], None),
        ("max_samples", ["num_samples", "max_steps"], None),
        ("sigmoid", ["simpo", "dpo"], None),
        ("grpo", ["report", "merge"], None),
        ("beta", ["adam_beta2"], None),
    ],
)
def test_only_a_slip_of_the_keyboard_is_near(found: str, valid: list[str], meant: str | None) -> None:
    assert did_you_mean(found, valid) == (f" Did you mean '{meant}'?" if meant else "")


def test_controls_are_spelled_out() -> None:
    assert without_controls("a\x1b[31mb\u202e\r\nc\td") == "a\\x1b[31mb\\u202e\\r\nc\td"
