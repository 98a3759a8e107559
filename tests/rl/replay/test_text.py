"""A replay as text: metrics, verdict, and the answers that stand out."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from hf_align.rl.replay import text as replay_text


def test_the_summary_has_a_line_a_metric(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay_text, "answer_columns", lambda found: ["answer", "score"])
    monkeypatch.setattr(replay_text, "answer_cells", lambda breakdown: [str(breakdown.number), "0.5"])
    recording = SimpleNamespace(step=4, prompts=["a", "b"], metrics={"kl": 0.25, "score": 1.5}, finished=True)
    replayed: Any = SimpleNamespace(recording=recording, folder="runs/x", again=None, why_not="")
    monkeypatch.setattr(replay_text, "verdict", lambda given: ["Recorded numbers alone."])
    breakdown: Any = SimpleNamespace(number=7, ids=[1, 2, 3])
    lines = replay_text.summary_text(replayed, [breakdown], {"best": breakdown}).splitlines()
    assert lines[0] == "Rollout 4 of runs/x: 2 prompts, 1 answers, 3 tokens"
    assert lines[1] == "Recorded numbers alone." and lines[3].split() == ["metric", "recorded"]
    assert lines[4].split() == ["kl", "0.25"] and lines[-1].split() == ["best", "7", "0.5"]
    assert len(lines[-1]) == len(lines[-2])
