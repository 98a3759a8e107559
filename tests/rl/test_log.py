"""What a PPO run writes of a rollout, on the main process alone, and a clock of laps."""

from __future__ import annotations

import json
from pathlib import Path

from helpers.ppo_parts import answers

from hf_align.rl.log import Clock, RunLog


def test_best_middling_and_worst_answer(tmp_path: Path) -> None:
    episodes = answers([[2, 3], [4, 2, 2]])
    for reward, episode in zip((0.1, 0.5, 0.2, 0.9, -1.0), episodes, strict=True):
        episode.reward = reward
    log = RunLog(str(tmp_path), main=True, earlier_seconds=100.0)
    log.write_metrics(3, {"kl": 0.5})
    log.answers(3, ["first", "second"], episodes)
    (line,) = [json.loads(text) for text in log.metrics.read_text().splitlines()]
    assert line["step"] == 3 and line["kl"] == 0.5 and line["time_seconds"] >= 100
    (line,) = [json.loads(text) for text in log.samples.read_text().splitlines()]
    assert [sample["reward"] for sample in line["samples"]] == [0.9, 0.2, -1.0]
    assert [sample["prompt"] for sample in line["samples"]] == ["second"] * 3
    assert line["samples"][0]["tokens"] == 2


def test_other_processes_write_nothing(tmp_path: Path) -> None:
    log = RunLog(str(tmp_path), main=False, earlier_seconds=0.0)
    log.write_metrics(1, {})
    log.answers(1, [], [])
    assert list(tmp_path.iterdir()) == []


def test_laps() -> None:
    times = iter([10.0, 12.5, 13.0])
    clock = Clock(now=lambda: next(times))
    clock.lap("sampling")
    clock.lap("update")
    assert clock.laps == {"sampling": 2.5, "update": 0.5} and clock.total == 3.0
