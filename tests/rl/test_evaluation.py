"""Held-out prompts: one answer each, scored, the same metrics for the same seed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers.ppo_parts import accelerator, models, prompts, rollout_tools

from hf_align.rl import rollout
from hf_align.rl.rollout import held_out_metrics


def test_one_answer_to_every_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    accelerator()
    asked = [prompt for _, prompt in prompts([4, 6, 3])]
    tools = rollout_tools(models())
    seen: list[int] = []

    def score(tools: Any, asked: Any, episodes: Any) -> None:
        for episode in episodes:
            seen.append(episode.prompt)
            episode.reward = float(len(episode.tokens))
            episode.parts = {"length": episode.reward}

    monkeypatch.setattr(rollout, "score_episodes", score)
    found = held_out_metrics(tools, asked, seed=(0, 1))
    assert sorted(seen) == [0, 1, 2]
    # The policy is still its own reference.
    assert found["kl"] == pytest.approx(0, abs=1e-4)
    assert found["reward/total"] == pytest.approx(found["response_length"])
    assert held_out_metrics(tools, asked, seed=(0, 1)) == found
    assert np.isfinite(list(found.values())).all()
