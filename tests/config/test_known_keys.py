"""Advice for a key that no recipe has: other trainers' names lead to keys that there are."""

from __future__ import annotations

import itertools
import re

import pytest

from hf_align.config.known_keys import _NAMED_HERE, unknown_key
from hf_align.stages import PIPELINE_COMMANDS, recipe_class

COMMANDS = {name: recipe_class(name) for name in PIPELINE_COMMANDS}

KEYS = set(itertools.chain(*(recipe.keys() for recipe in COMMANDS.values())))
TRAINED = {*COMMANDS["sft"].keys(), *COMMANDS["dpo"].keys()}


@pytest.mark.parametrize("other", sorted(_NAMED_HERE))
def test_what_is_advised_exists_and_what_is_unknown_does_not(other: str) -> None:
    advice = _NAMED_HERE[other]
    # A key of one stage may be another trainer's name for something else (num_samples, gamma).
    for written in re.findall(r"^write ([a-z_]+)", advice):
        assert written in KEYS, advice
    for beside in re.findall(r"\(([a-z_]+)\)", advice):
        assert beside in KEYS, advice
    assert other not in TRAINED


def test_the_nearest_name_else() -> None:
    keys = ["learning_rate", "max_steps"]
    assert unknown_key("lr", keys) == " Here: write learning_rate."
    assert unknown_key("learning_rat", keys) == " Did you mean 'learning_rate'?"
    assert "belongs into an entry of datasets: [{path: …, weight: …}]" in unknown_key("weight", keys)
    assert unknown_key("colour", keys) == ""
