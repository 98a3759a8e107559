"""Names and options of the rewards that come with the project, in a recipe and in TRL's names."""

from __future__ import annotations

from typing import Any

import pytest

from hf_align.errors import UserError
from hf_align.rewards.functions import call_function
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


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("exact_answer", {"answer": "a"}, {"x": 1}),
        ("numeric", {"answer": "1"}, {"answer": "blue"}),
        ("multiple_choice", {"answer": "A"}, {"answer": "blue"}),
        ("json_schema", {"schema": {}}, {"schema": {"type": "none"}}),
        ("language", {"language": "en"}, {"x": 1}),
        ("code", {"tests": "pass"}, {"tests": []}),
    ],
)
def test_a_wrong_row_is_named_by_its_place(name: str, good: dict[str, Any], bad: dict[str, Any]) -> None:
    function, _ = verifier(name, {})
    with pytest.raises(UserError, match=rf"^f:2: reward_functions: {name}: "):
        call_function(function, name, ["p"] * 2, ["1"] * 2, [good, bad], places=["f:1", "f:2"])


@pytest.mark.parametrize(
    ("name", "options", "row"),
    [
        ("json_schema", {}, {"schema": {"type": "integer"}}),
        ("numeric", {}, {"answer": "1", "tag": "x", "column": "y"}),
        ("language", {"code": "en"}, {"code": "zh"}),
        ("length", {"at_most": 3}, {"unit": "furlongs", "at_most": 0}),
        ("format_tags", {"tags": ["a"]}, {"tags": ["b"], "rest": True}),
    ],
)
def test_columns_that_are_called_as_options_are_columns(
    name: str, options: dict[str, Any], row: dict[str, Any]
) -> None:
    said = {"language": "The train leaves at nine in the morning.", "format_tags": "<a>1</a>"}.get(name, "1")
    function, _ = verifier(name, options)
    (score,) = call_function(function, name, ["p"], [said], [row], places=["f:1"])
    assert score > 0.5
