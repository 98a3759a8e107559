"""Drawings of a reward run cope with few pairs."""

from __future__ import annotations

import copy

from hf_align.reward_model.plots import reward_plots
from hf_align.statistics.calibration import distribution, reward_evaluation


def test_drawings_cope_with_few_pairs() -> None:
    few = reward_evaluation([1.0], [1.0], [3], scores=[1.0, 0.0], lengths=[4, 1])
    few["scores"] = distribution([1.0], [0.0], [1.0])
    assert [plot.title for plot in reward_plots({"after": few})] == [
        "Reliability",
        "Accuracy by difference in length",
        "Scores after training",
    ]
    same = copy.deepcopy(few)
    same["scores"] = distribution([0.0], [0.0], [1.0])
    assert len(reward_plots({"before": same, "after": few})) == 4
