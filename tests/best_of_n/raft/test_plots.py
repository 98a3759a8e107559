"""Drawings of rejection-sampling fine-tuning, a point a round."""

from __future__ import annotations

from helpers.raft_records import RECORD, a_round

from hf_align.best_of_n.raft.plots import MOST_CURVES, raft_plots
from hf_align.best_of_n.raft.report import raft_view


def test_the_drawings_say_what_they_show():
    plots = raft_view(RECORD)["plots"]
    assert [plot.title for plot in plots] == ["Reward after each round", "Best of n in each round"]
    assert "from 0.5 to 1.5 in 2 rounds" in plots[0].summary
    assert "0.25 to 0.75" in plots[0].summary
    many = [a_round(number, number / 10, 1.0) for number in range(1, MOST_CURVES + 3)]
    summary = raft_plots(many)[1].summary.lower()
    assert "round 1:" in summary and f"round {MOST_CURVES + 2}:" in summary
