"""Drawings of a PPO run."""

from __future__ import annotations

from helpers.ppo_records import metrics

from hf_align.rl.plots import rl_plots


def test_drawings() -> None:
    plots = {plot.title: plot for plot in rl_plots(metrics())}
    assert "Reward" in plots and set(plots["Reward"].forms) == {"wide", "narrow"}
    assert "Reward reward" in plots and "Reward short" in plots and "KL coefficient" in plots
    assert plots["Reward"].summary == (
        "From 0.1 to 2, rollouts 1 to 20; held-out prompts from -0.5 to 1.25, rollouts 0 to 20."
    )
    assert "rollout" in plots["Entropy"].forms["small"]
    assert "1" in plots["Explained variance of the returns"].note, "the step without a number"
    fixed = [{**row, "kl_coef": 0.05} if "kl_coef" in row else row for row in metrics()]
    one = [{key: value for key, value in row.items() if key != "reward/short"} for row in fixed]
    titles = [plot.title for plot in rl_plots(one)]
    assert "KL coefficient" not in titles and "Reward reward" not in titles
    assert rl_plots([]) == []
