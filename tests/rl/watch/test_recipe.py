"""The options of the reward check and of the watch, and what they refuse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hf_align.errors import UserError
from hf_align.rl.recipe import parse_ppo
from hf_align.rl.watch.recipe import WatchConfig

REQUIRED = {"model_name_or_path": "m", "datasets": "x.jsonl", "reward_functions": "a.py:f"}


def parse(**given: Any) -> Any:
    arguments = []
    for key, value in {**REQUIRED, **given}.items():
        arguments += [f"--{key}", str(value)]
    return parse_ppo(arguments)


def test_the_watch_warns_by_default_and_needs_no_second_reward() -> None:
    watch = parse().watch
    assert watch.watch_action == "warn" and watch.watches and not watch.has_rewards
    assert (watch.watch_window, watch.watch_patience, watch.watch_max_drop) == (4, 3, 0.5)


def test_the_watch_rewards_take_the_forms_of_the_rewards() -> None:
    watch = parse(
        watch_reward_model="runs/other",
        watch_reward_functions="[b.py:g, ~/c.py:h]",
        watch_reward_model_input="answer",
        reward_check_pairs="pairs.jsonl",
    ).watch
    rewards = watch.rewards()
    assert rewards.reward_model == ["runs/other"] and rewards.reward_model_input == "answer"
    assert rewards.reward_functions == ["b.py:g", str(Path.home() / "c.py:h")]
    assert [dataset.path for dataset in watch.reward_check_pairs] == ["pairs.jsonl"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"watch_reward_functions": "b.py"},
            "--watch_reward_functions: found the text 'b.py', expected a Python",
        ),
        ({"watch_reward_functions": "[b.py:g, b.py:g]"}, "watch_reward_functions: 'b.py:g' is given twice"),
        ({"watch_reward_functions": "a.py:f"}, "watch_reward_functions: 'a.py:f' is trained on"),
        ({"reward_model": "r", "watch_reward_model": "r"}, "watch_reward_model: 'r' is trained on"),
        ({"watch_max_drop": 1}, "watch_max_drop: this has no effect without a watch reward"),
        ({"watch_reward_model_input": "answer"}, "without a watch reward"),
        (
            {"watch_reward_functions": "b.py:g", "watch_reward_model_input": "answer"},
            "no effect without a watch_reward_model",
        ),
        ({"watch_action": "roll_back", "save_strategy": "no"}, "there is nothing to roll back to"),
        ({"watch_action": "halt"}, "expected one of: warn, stop, roll_back"),
        ({"watch_max_kl": 0}, "watch_max_kl: found the number 0, expected a number above 0"),
        ({"watch_max_length_ratio": 1}, "expected a number above 1"),
        ({"watch_max_repetition_rise": 1}, "above 0 and below 1"),
        ({"watch_window": 0}, "watch_window: found the number 0"),
        ({"watch_patience": 0}, "watch_patience: found the number 0"),
        ({"watch_max_dorp": 1}, "Did you mean 'watch_max_drop'"),
    ],
)
def test_what_is_refused_is_explained(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as problem:
        parse(**given)
    assert message in str(problem.value), problem.value


def test_an_action_that_nothing_can_bring_about_is_refused() -> None:
    off = {key: None for key in ("watch_max_kl", "watch_max_length_ratio", "watch_max_repetition_rise")}
    with pytest.raises(UserError, match="every limit is null"):
        WatchConfig(watch_action="stop", **off)
    assert WatchConfig(watch_action="stop", watch_reward_functions=["b.py:g"], **off).watches
    assert not WatchConfig(**off, watch_max_drop=None).watches
