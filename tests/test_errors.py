"""The error of a user's mistake, and the nearest valid name in it."""

from __future__ import annotations

import pytest

from hf_align.errors import UserError, did_you_mean


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
