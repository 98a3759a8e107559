"""Answers that show what an alarm means, and the warning with them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers.ppo_parts import answers

from hf_align.rl.watch import rules
from hf_align.rl.watch.evidence import SHOWN, evidence, warning
from hf_align.rl.watch.rules import Alarm


def alarm(figure: str, before: float = 1.0, now: float = 2.0) -> Alarm:
    return Alarm(figure, 9, 7, 2, before, now, 1.0, 0.5)


def episodes() -> list[Any]:
    found = answers([[2, 9], [4, 6, 3]])
    for number, episode in enumerate(found):
        episode.text = f"answer {number}"
        episode.reward = float(number)
        episode.watch = {"quality": float([5, 5, 5, 5, -5][number])}
        episode.logps = np.zeros(len(episode.tokens), np.float32)
        episode.reference_logps = np.full(len(episode.tokens), -float(number == 2), np.float32)
    return found


@pytest.mark.parametrize(
    ("figure", "now", "first"),
    [
        (f"{rules.WATCHED}quality", 0.0, "answer 4"),  # the highest reward and the lowest watch reward
        (rules.KL, 2.0, "answer 2"),
        (rules.LENGTH, 2.0, "answer 1"),
        (rules.LENGTH, 0.5, "answer 0"),
    ],
)
def test_the_clearest_comes_first(figure: str, now: float, first: str) -> None:
    found = evidence(alarm(figure, now=now), {0: "p", 1: "q"}, episodes())
    assert found[0]["answer"] == first and len(found) == SHOWN


def test_no_text_twice() -> None:
    same = episodes()
    for episode in same:
        episode.text = "the same"
    assert len(evidence(alarm(rules.KL), {0: "p", 1: "q"}, same)) == 1


def test_the_warning_names_rollouts_and_answers() -> None:
    samples = [{"reward": 1.25, "watch": {"quality": -5.0}, "answer": "x " * 200}]
    lines = warning(alarm(rules.KL), "it fell by 1", samples).splitlines()
    assert lines[0] == "rollout 9: the reward may be hacked since rollout 7: it fell by 1."
    assert lines[1].startswith("  reward 1.25, quality -5: 'x x") and lines[1].endswith("...'")
