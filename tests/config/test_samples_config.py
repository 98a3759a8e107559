"""Options of sample generations: every stage that has them answers the same way by default."""

from __future__ import annotations

import pytest

from hf_align.config import SamplesConfig
from hf_align.config.group import KeyProblem
from hf_align.preference.recipe import DpoConfig
from hf_align.rl.recipe import PpoConfig
from hf_align.sft.recipe import SftConfig


def test_every_stage_that_writes_samples_has_them() -> None:
    for stage in (SftConfig, DpoConfig, PpoConfig):
        assert stage.groups()["samples"] is SamplesConfig


def test_samples_may_be_none_and_are_greedy_by_default() -> None:
    assert SamplesConfig(num_samples=0).sample_temperature == 0
    for key, value in (("num_samples", -1), ("sample_max_new_tokens", 0), ("sample_temperature", -0.1)):
        with pytest.raises(KeyProblem, match=key):
            SamplesConfig(**{key: value})
