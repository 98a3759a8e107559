"""Names and options of the rewards that come with the project, in a recipe and in TRL's names."""

from __future__ import annotations

from typing import Any

import pytest

from hf_align.errors import UserError
from hf_align.rewards.models import load_rewards
from hf_align.rewards.recipe import RewardsConfig
from hf_align.rewards.verifiable.table import ALIASES, VERIFIERS, verifier
from hf_align.types import Example

OPTIONS: dict[str, dict[str, Any]] = {"length": {"at_most": 3}}


@pytest.mark.parametrize("name", [*VERIFIERS, *ALIASES])
def test_every_name_leads_to_a_function_with_a_digest_of_its_options(name: str) -> None:
    options = OPTIONS.get(name, {})
    function, digest = verifier(name, options)
    assert callable(function) and digest == verifier(name, options)[1]


def test_options_are_in_the_digest() -> None:
    assert verifier("numeric", {})[1] != verifier("numeric", {"column": "a"})[1]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"numeric": {"colum": "a"}}, "numeric has no option 'colum'. Did you mean 'column'"),
        ({"numeric": {"column": 3}}, "column: found 3, expected text or null"),
        ({"length": {"at_most": "3"}}, "'length' is none of the reward_functions"),
    ],
)
def test_wrong_options_are_refused_with_the_recipe(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        RewardsConfig(reward_functions=["numeric"], reward_options=options)


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(UserError, match=r"or one of exact_answer, numeric.*Did you mean 'numeric'"):
        RewardsConfig(reward_functions=["numerik"])
    with pytest.raises(UserError, match="a function of your own, which takes none"):
        RewardsConfig(reward_functions=["a.py:f"], reward_options={"a.py:f": {"x": 1}})


def test_rewards_are_weighed_each_by_its_name() -> None:
    config = RewardsConfig(
        reward_functions=["numeric", "length"],
        reward_weights=[1.0, 0.5],
        reward_options={"length": {"at_most": 2}},
    )
    rewards = load_rewards(config)
    examples = [Example("f:1", prompt="q", completion="a")] * 2
    rows = [{"answer": "4"}, {"answer": "4"}]
    scored = rewards.score(["q", "q"], ["it is 4 then", "5"], rows, examples)
    assert {name: values.tolist() for name, values in scored.parts.items()} == {
        "numeric": [1.0, 0.0],
        "length": [0.5, 1.0],
    }
    assert scored.total.tolist() == [1.25, 0.5]
