"""Options of the stages that compare answers: their defaults, and the one target that makes sense."""

from __future__ import annotations

import pytest

from hf_align.config.data import ComparisonConfig, check_answers_are_trained
from hf_align.config.group import KeyProblem
from hf_align.preference.recipe import DpoConfig
from hf_align.reward_model.recipe import RewardConfig
from hf_align.sft.recipe import SftConfig


def test_stages_that_compare_have_them_and_others_do_not() -> None:
    for stage in (DpoConfig, RewardConfig):
        assert ComparisonConfig in stage.groups().values()
    assert ComparisonConfig not in SftConfig.groups().values()


def test_answers_are_what_is_trained() -> None:
    check_answers_are_trained("assistant")
    for other in ("all", "last"):
        with pytest.raises(KeyProblem, match=f"found {other}; what counts here") as caught:
            check_answers_are_trained(other)
        assert caught.value.keys == ("train_on",)
