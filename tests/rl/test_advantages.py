"""Scores and advantages of a small rollout, against numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from helpers.ppo_parts import options

from hf_align.rewards.scaling import RunningMoments
from hf_align.rl.advantages import (
    answer_metrics,
    final_scores,
    make_experience,
    reference_difference,
    reward_metrics,
    sampling_difference,
)
from hf_align.rl.episodes import Episode

PLAIN = {"whiten_advantages": False, "gamma": 1.0, "lam": 0.5}


def episode(logps: list[float], reference: list[float], values: list[float], **given: object) -> Episode:
    count = len(logps)
    return Episode(
        **{
            "prompt": 0,
            "tokens": np.arange(count, dtype=np.int32),
            "sampled_logps": np.array(logps, np.float32) + 0.01,
            "stopped": True,
            "text": "",
            "logps": np.array(logps, np.float32),
            "entropies": np.full(count, 2.0, np.float32),
            "reference_logps": np.array(reference, np.float32),
            "values": np.array(values, np.float32),
            "parts": {"a": 0.0},
            **given,
        }
    )


TWO = [episode([-1.0, -2.0], [-1.5, -1.0], [0.2, 0.4]), episode([-1.0], [-3.0], [1.0])]


def test_advantages_by_hand() -> None:
    found = make_experience(TWO, np.array([3.0, -1.0]), options(**PLAIN), kl_coef=0.1)
    # KL: 0.5 and -1; 2. Rewards: -0.05 and 0.1 + 3 = 3.1; -0.2 - 1 = -1.2.
    # Deltas: -0.05 + 0.4 - 0.2 = 0.15 and 3.1 - 0.4 = 2.7; -1.2 - 1 = -2.2.
    # Advantages with lambda 0.5: 0.15 + 0.5 * 2.7 = 1.5 and 2.7; -2.2. Returns: plus the values.
    torch.testing.assert_close(found.columns["advantages"], torch.tensor([[1.5, 2.7], [-2.2, 0.0]]))
    torch.testing.assert_close(found.columns["returns"], torch.tensor([[1.7, 3.1], [-1.2, 0.0]]))
    assert found.kl == pytest.approx((0.5 - 1 + 2) / 2)
    metrics = found.metrics
    assert metrics["token_kl"] == pytest.approx(1.5 / 3)
    assert metrics["kl_penalty"] == pytest.approx(0.075)
    assert metrics["objective"] == pytest.approx(1.0 - 0.075)
    assert metrics["entropy"] == pytest.approx(2.0)
    assert metrics["values"] == pytest.approx(1.6 / 3)
    assert metrics["response_length"] == 1.5
    assert metrics["sampling_logp_difference"] == pytest.approx(0.01, rel=1e-4)
    # Returns 1.7, 3.1, -1.2 less the values 0.2, 0.4, 1.0.
    expected = 1 - np.var([1.5, 2.7, -2.2]) / np.var([1.7, 3.1, -1.2])
    assert metrics["explained_variance"] == pytest.approx(expected, rel=1e-5)


def test_the_third_estimator_is_never_below_zero() -> None:
    found = make_experience(TWO, np.zeros(2), options(**PLAIN, kl_estimator="k3"), kl_coef=1.0)
    # exp(log r) - 1 - log r with log r = reference - policy: -0.5, 1 and -2.
    kl = [math.exp(-0.5) - 0.5, math.e - 2, math.exp(-2) + 1]
    assert found.kl == pytest.approx(sum(kl) / 2, rel=1e-5)


def test_whitening_counts_the_tokens_of_answers_alone() -> None:
    found = make_experience(TWO, np.array([3.0, -1.0]), options(gamma=1.0, lam=0.5), kl_coef=0.1)
    counted = found.columns["advantages"][torch.tensor([[True, True], [True, False]])]
    assert counted.mean().item() == pytest.approx(0, abs=1e-6)
    assert counted.var(correction=0).item() == pytest.approx(1, rel=1e-5)
    assert found.columns["advantages"][1, 1] == 0
    plain = make_experience(TWO, np.array([3.0, -1.0]), options(**PLAIN), kl_coef=0.1)
    torch.testing.assert_close(found.columns["returns"], plain.columns["returns"])


def test_whitened_rewards_keep_their_mean() -> None:
    settings = options(**{**PLAIN, "lam": 0.0}, whiten_rewards=True)
    quiet = [episode([-1.0, -2.0], [-1.0, -2.0], [0, 0]), episode([-1.0], [-1.0], [0])]
    found = make_experience(quiet, np.array([6.0, 3.0]), settings, kl_coef=0.1)
    # Rewards 0, 6, 3 with mean 3 and deviation sqrt(6); lambda 0 and values 0: advantages are rewards.
    expected = [3 + (value - 3) / math.sqrt(6) for value in (0, 6, 3)]
    ours = found.columns["advantages"][torch.tensor([[True, True], [True, False]])]
    assert ours.tolist() == pytest.approx(expected, rel=1e-4)


def test_scores_are_penalised_then_normalised_then_clipped() -> None:
    three = [
        episode([-1.0], [-1.0], [0], reward=1.0),
        episode([-1.0], [-1.0], [0], reward=5.0, stopped=False),
        episode([-1.0], [-1.0], [0], reward=6.0),
    ]
    scores, moments = final_scores(three, options(), RunningMoments(), missing_eos_penalty=2.0)
    assert scores.tolist() == [1.0, 3.0, 6.0] and moments.count == 0
    settings = options(normalize_scores=True, score_clip=0.9)
    scores, moments = final_scores(three, settings, RunningMoments(), missing_eos_penalty=3.0)
    # 1, 2 and 6 have the mean 3 and the deviation sqrt((4 + 1 + 9) / 2) = 2.6458.
    assert scores.tolist() == pytest.approx([-2 / math.sqrt(7), -1 / math.sqrt(7), 0.9])
    assert (moments.count, moments.mean) == (3, 3.0)
    scores, moments = final_scores(three[:1], options(normalize_scores=True), moments, missing_eos_penalty=3)
    # 1, 2, 6 and 1: mean 2.5, squares 2.25 + 0.25 + 12.25 + 2.25 = 17.
    assert scores.tolist() == pytest.approx([-1.5 / math.sqrt(17 / 3)])


def test_metrics_of_rewards_and_answers() -> None:
    two = [
        episode([-1.0], [-1.0], [0], reward=1.0, parts={"a": 2.0, "b": -1.0}),
        episode([-1.0] * 3, [-1.0] * 3, [0] * 3, reward=4.0, parts={"a": 4.0, "b": 0.0}, stopped=False),
    ]
    assert reward_metrics(two) == {
        "reward/total": 2.5,
        "reward_std": 1.5,
        "reward/a": 3.0,
        "reward/b": -0.5,
    }
    assert answer_metrics(two) == {"response_length": 2.0, "eos_rate": 0.5, "repetition": 0.0}
    two[0].watch, two[1].watch = {"c": 1.0}, {"c": 4.0}
    watched = reward_metrics(two)
    assert (watched["watch/c"], watched["watch_std/c"], watched["reward/total"]) == (2.5, 1.5, 2.5)


def test_repetition_is_a_mean_over_answers() -> None:
    # One answer without a 4-gram, and one of five, the last of which has come before.
    tokens = [1, 2, 3, 4, 1, 2, 3, 4]
    one = episode([-1.0] * 8, [-1.0] * 8, [0] * 8)
    one.tokens = np.array(tokens, dtype=np.int32)
    assert answer_metrics([one, episode([-1.0], [-1.0], [0])])["repetition"] == pytest.approx(0.1)


def test_differences_are_means_over_tokens() -> None:
    mean, largest = reference_difference(TWO)
    assert mean == pytest.approx((0.5 + 1 + 2) / 3) and largest == pytest.approx(2)
    mean, largest = sampling_difference(TWO)
    assert mean == pytest.approx(0.01, rel=1e-4) and largest == pytest.approx(0.01, rel=1e-4)
