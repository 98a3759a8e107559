"""The recipe of merging: where the result goes is required, and how it is stored has one key."""

from __future__ import annotations

import pytest

from hf_align.commands.merge_recipe import MergeConfig
from hf_align.config import load_config
from hf_align.errors import UserError

GIVEN = ["--model_name_or_path", "runs/a", "--output_dir", "runs/b"]


def test_what_is_required() -> None:
    assert load_config(MergeConfig, GIVEN).merge.save_dtype == "auto"
    with pytest.raises(UserError, match="--output_dir is missing"):
        load_config(MergeConfig, GIVEN[:2])


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("dtype", "bfloat16", "dtype: weights are merged in float32; save_dtype says"),
        ("tolerance", "0", "expected a number above 0 or null"),
        ("save_dtype", "int8", "one of: auto"),
    ],
)
def test_refused(option: str, value: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_config(MergeConfig, [*GIVEN, f"--{option}", value])


def test_a_tilde_is_the_users_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    given = ["--model_name_or_path", "~/a", "--output_dir", "~/b", "--base_model", "~/c"]
    merge = load_config(MergeConfig, given).merge
    assert (merge.output_dir, merge.base_model) == ("/home/someone/b", "/home/someone/c")
