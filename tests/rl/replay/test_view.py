"""Figures of a replay beside the recorded ones."""

from __future__ import annotations

from hf_align.rl.replay.view import metrics_table


def test_metrics_of_both_side_by_side() -> None:
    recorded = {"kl": 0.5, "ratio": float("nan"), "loss": 2.0, "update_seconds": 1.0, "watched": 3.0}
    table = metrics_table(recorded, {"kl": 0.5, "ratio": float("nan"), "loss": 2.5, "new": 1.0})
    assert [(one.name, one.recorded, one.again, one.difference) for one in table] == [
        ("kl", "0.5", "0.5", "="),
        ("ratio", "nan", "nan", "="),
        ("loss", "2", "2.5", "+0.5"),
        ("watched", "3", "–", ""),
        ("new", "–", "1", ""),
    ]
