"""Drawings of the watch over a reward: rewards in one unit, limits, and where it fired."""

from __future__ import annotations

from helpers.watch_records import metrics, record

from hf_align.rl.watch.plots import in_deviations, watch_plots
from hf_align.runs.metrics import Series


def test_rewards_are_drawn_in_one_unit() -> None:
    values = Series([1, 2, 3], [1.0, 3.0, 8.0], [])
    # The first two: mean 2, mean deviation 4.
    found = in_deviations(values, Series([1, 2, 3], [3.0, 5.0, 99.0], []), 2)
    assert found.values == [-0.25, 0.25, 1.5]
    assert in_deviations(values, Series([1, 2, 3], [0.0, 0.0, 1.0], []), 2).values == [-1.0, 1.0, 6.0]


def test_the_plots_show_rewards_limits_and_where_it_fired() -> None:
    plots = {plot.title: plot for plot in watch_plots(record(), metrics())}
    assert list(plots) == [
        "Training reward against watch reward",
        "KL to the reference and its limit",
        "Length and its limits",
        "Repetition and its limit",
    ]
    rewards = plots["Training reward against watch reward"]
    assert "Training reward from 1 to 10" in rewards.summary and "rollouts 1 to 10" in rewards.summary
    assert "watch reward honest from 0.45 to 0" in rewards.summary
    assert all("the watch fired" in plot.forms[size] for plot in plots.values() for size in plot.forms)
    assert "limit for the mean of a window is 30.0 %" in plots["Repetition and its limit"].summary
    assert "limit" not in plots["Length and its limits"].summary, "it is off"
