"""What the watch does in a run: alarms are kept, and a run that they ended is not continued as it is."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers.ppo_parts import answers, prompts

from hf_align.errors import UserError
from hf_align.rl.recipe import PpoConfig
from hf_align.rl.watch import rules
from hf_align.rl.watch.actions import Watch, check_not_ended, load_watch_rewards
from hf_align.runs.schema import Record

REQUIRED = {"model_name_or_path": "m", "datasets": "a", "reward_functions": "r.py:f"}


def made(folder: Path, **options: Any) -> Any:
    given = {"watch_window": 1, "watch_patience": 1, "watch_max_kl": 5.0, **options}
    config = PpoConfig.from_flat({**REQUIRED, "output_dir": str(folder), **given})
    content = Record()
    record = SimpleNamespace(content=content, update=content.update, path=folder / "run.json")
    return SimpleNamespace(config=config, record=record, machine=SimpleNamespace(main=True))


def note(watch: Watch, rollout: int, kl: float) -> None:
    figures = {rules.REWARD: 0.0, rules.KL: kl, rules.LENGTH: 5.0, rules.REPETITION: 0.0}
    found = answers([[3], [2]])
    for episode in found:
        episode.logps = episode.reference_logps = episode.sampled_logps
    watch.note(rollout, figures, prompts([4, 5]), found)


def test_an_alarm_is_warned_of_and_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = made(tmp_path)
    watch = Watch(run, None)
    with caplog.at_level(logging.WARNING):
        note(watch, 1, kl=1.0)
        assert not caplog.records
        note(watch, 2, kl=9.0)
    assert "the reward may be hacked since rollout 2" in caplog.text
    (kept,) = run.record.content["reward_watch"]["alarms"]
    assert kept["figure"] == rules.KL and kept["now"] == 9.0 and kept["samples"]
    assert watch.fired == [] and not watch.rolls_back, "to warn is all that it was asked for"
    assert len(watch.state()["rows"]) == 2


def test_a_run_that_it_ended_is_not_continued_as_it_is(tmp_path: Path) -> None:
    run = {"command": "ppo", "message": "stopped by the watch", "reward_watch": {"ended": {"rollout": 2}}}
    (tmp_path / "run.json").write_text(json.dumps(run))
    again = {"resume_from_checkpoint": "auto"}
    check_not_ended(made(tmp_path, **again).config)
    with pytest.raises(UserError, match=r"stopped by the watch\. Continued as it is"):
        check_not_ended(made(tmp_path, watch_action="stop", **again).config)
    check_not_ended(made(tmp_path, watch_action="stop", force_resume=True, **again).config)


def test_rewards_of_the_watch_are_named_by_their_own_keys(tmp_path: Path) -> None:
    assert load_watch_rewards(made(tmp_path).config, None, use_cpu=True) is None  # type: ignore[arg-type]
    asked = made(tmp_path, watch_reward_functions="none.py:f").config
    with pytest.raises(UserError, match="watch_reward_functions: "):
        load_watch_rewards(asked, None, use_cpu=True)  # type: ignore[arg-type]
