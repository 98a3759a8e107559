"""Held-out metrics of preference runs: every prompt counts once, with intervals."""

from __future__ import annotations

import numpy as np
import pytest

from hf_align.preference.metrics import mean_interval, preference_evaluation, prompt_means


def test_the_pairs_of_a_prompt_are_averaged() -> None:
    # A pair, a ranking of three answers, a pair.
    weights = np.array([1.0, 1 / 3, 1 / 3, 1 / 3, 1.0], dtype=np.float32)
    assert prompt_means([4.0, 1.0, 2.0, 6.0, -1.0], weights).tolist() == [4.0, 3.0, -1.0]
    assert prompt_means([], []).tolist() == []
    # 28 pairs of 8 answers.
    assert prompt_means(np.ones(56), np.full(56, 1 / 28, dtype=np.float32)).tolist() == [1.0, 1.0]


def test_the_interval_of_a_mean() -> None:
    # Deviations -1, 0, 1: standard deviation 1, standard error 1 / sqrt(3) = 0.57735.
    low, high = mean_interval(np.array([1.0, 2.0, 3.0]))
    assert (low, high) == pytest.approx((2 - 1.13158, 2 + 1.13158), abs=1e-4)
    assert mean_interval(np.array([5.0])) == (5.0, 5.0)


def test_the_metrics_of_an_evaluation() -> None:
    details = {
        "margins": np.array([0.5, 0.0, -1.0, 2.0], dtype=np.float32),
        "likelihood_margins": np.array([1.0, 1.0, -1.0, 1.0], dtype=np.float32),
        "pair_weights": np.array([1.0, 1.0, 0.5, 0.5], dtype=np.float32),
    }
    metrics = {"eval_loss": 0.6, "eval_kl": 0.01, "eval_logps/chosen_change": -0.2, "eval_pairwise_loss": 0.5}
    found = preference_evaluation(metrics, details)
    assert found["prompts"] == 3
    # Right: 1, 0 (a tie is no preference) and a half; margins 0.5, 0 and 0.5.
    assert found["accuracy"] == pytest.approx(0.5)
    assert found["likelihood_accuracy"] == pytest.approx(2.5 / 3)
    assert found["margin"] == pytest.approx(1 / 3)
    # Wilson with z = 1.96: (0.5 + 0.640 ± 1.96 sqrt(0.25 / 3 + 3.84 / 36)) / (1 + 3.84 / 3).
    assert found["accuracy_interval"] == pytest.approx([0.1253, 0.8747], abs=1e-3)
    assert found["logps/chosen_change"] == -0.2 and found["kl"] == 0.01 and found["pairwise_loss"] == 0.5
    assert "logps/chosen" not in found


def test_nothing_held_out() -> None:
    empty = np.zeros(0, dtype=np.float32)
    details = {"margins": empty, "likelihood_margins": empty, "pair_weights": empty}
    assert preference_evaluation({}, details) == {"prompts": 0}
