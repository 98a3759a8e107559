"""Evaluations of several seeds put together: means and intervals by hand and from tables."""

from __future__ import annotations

import math

import numpy as np
import pytest

from hf_align.pipeline.seeds import combined, over_seeds, reward_difference_over_prompts, t_quantile


@pytest.mark.parametrize(
    ("freedom", "value"),
    # From printed tables of Student's t distribution.
    [(1, 12.706), (2, 4.303), (10, 2.228), (11, 2.201), (15, 2.131), (30, 2.042), (120, 1.980)],
)
def test_quantiles_are_those_of_the_tables(freedom: int, value: float) -> None:
    assert t_quantile(freedom) == pytest.approx(value, abs=6e-4)


def test_a_quantile_needs_two_values() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        t_quantile(0)


def test_mean_and_interval_of_three_seeds() -> None:
    found = over_seeds([1.0, 2.0, 3.0])
    # The deviation of 1, 2, 3 is 1; half the interval is 4.303 / sqrt(3).
    assert found["mean"] == 2 and found["by_seed"] == [1, 2, 3]
    assert found["interval"] == pytest.approx([2 - 4.303 / math.sqrt(3), 2 + 4.303 / math.sqrt(3)])


def test_an_interval_of_shares_ends_where_shares_do() -> None:
    # Mean 0.9, deviation 0.1: 0.9 +- 4.303 * 0.1 / sqrt(3), of which the upper end is beyond 1.
    half = 4.303 * 0.1 / math.sqrt(3)
    assert over_seeds([0.8, 0.9, 1.0], within=(0, 1))["interval"] == pytest.approx([0.9 - half, 1.0])
    assert over_seeds([0.0, 0.0, 0.3], within=(0, 1))["interval"] == [0.0, pytest.approx(0.1 + 0.4303)]
    assert over_seeds([-0.9, -1.0], within=(-1, 1))["interval"] == [
        -1.0,
        pytest.approx(-0.95 + 12.706 * 0.05),
    ]
    # Points beyond one are no shares.
    assert over_seeds([0.0, 2.0], within=(0, 1))["interval"] == pytest.approx([-11.706, 13.706])


def test_only_shares_have_bounds() -> None:
    def one(correct: float, bits: float, metric: float) -> dict:
        def entry(gain: float) -> dict:
            return {"questions": 8, "accuracy": correct - gain, "accuracy_by_tokens": 0.5}

        tasks = {"mmlu": {"sft": entry(0.0), "dpo": entry(0.1)}}
        own = {"documents": 4, "acc": correct, "word_perplexity": metric, "metrics": {"acc": True}}
        return {
            "models": [{"name": "sft"}],
            "results": {
                "multiple_choice": tasks,
                "perplexity": {"t": {"sft": {"documents": 1, "bits_per_byte": bits}}},
                "lm_eval": {"arc": {"sft": own}},
            },
        }

    found = combined([one(1.0, 0.01, 9.0), one(0.6, 0.9, 1.0)])
    low, high = found["multiple_choice"]["mmlu"]["sft"]["figures"]["accuracy"]["interval"]
    assert (low, high) == (0.0, 1.0)
    assert found["perplexity"]["t"]["sft"]["figures"]["bits_per_byte"]["interval"][0] < 0
    task = found["lm_eval"]["arc"]["sft"]
    assert task["figures"]["acc"]["interval"] == [0.0, 1.0] and task["metrics"] == {"acc": True}
    assert task["figures"]["word_perplexity"]["interval"][0] < 0


def test_nothing_to_say_about_seeds() -> None:
    assert over_seeds([0.5])["interval"] is None
    assert over_seeds([0.5, 0.5, 0.5])["interval"] is None


def _evaluation(first: float, other: float | None) -> dict:
    models = {"sft": {"rows": 4, "reward": first, "reward_interval": [0, 1], "checks": {"stops": 1.0}}}
    if other is not None:
        difference = {"value": other - first, "interval": [0.1, 0.4]}
        models["dpo"] = {"rows": 4, "reward": other, "difference": difference}
    return {"models": [{"name": "sft"}], "results": {"reward": {"notes": models}, "perplexity": {}}}


def test_results_of_two_seeds() -> None:
    found = combined([_evaluation(0.25, 0.5), _evaluation(0.5, 1.0)])["reward"]["notes"]
    assert found["sft"]["figures"]["reward"]["mean"] == 0.375
    assert found["sft"]["figures"]["rows"]["mean"] == 4
    # Intervals and mappings are no metrics, and the first model has no difference from itself.
    assert set(found["sft"]["figures"]) == {"rows", "reward"} and found["sft"]["differences"] == {}
    change = found["dpo"]["differences"]["reward"]
    assert change["by_seed"] == [0.25, 0.5] and "over_prompts" not in change
    half = 12.706 * 0.125 * math.sqrt(2) / math.sqrt(2)
    assert change["interval"] == pytest.approx([0.375 - half, 0.375 + half])


def test_one_seed_keeps_the_intervals_of_its_evaluation() -> None:
    found = combined([_evaluation(0.25, 0.5)])["reward"]["notes"]
    assert found["sft"]["figures"]["reward"]["interval"] == [0, 1]
    assert found["dpo"]["differences"]["reward"]["interval"] is None
    assert found["dpo"]["differences"]["reward"]["over_prompts"] == [0.1, 0.4]


def test_what_a_seed_lacks_is_left_out() -> None:
    found = combined([_evaluation(0.25, 0.5), _evaluation(0.5, None)])
    assert list(found["reward"]["notes"]) == ["sft"]


def test_prompts_are_drawn_with_the_answers_of_all_seeds() -> None:
    # Seeds that move a prompt in opposite directions leave nothing to draw: the change of each prompt is 0.1.
    first = np.zeros((2, 20))
    other = np.array([np.linspace(-1, 1, 20), 0.2 - np.linspace(-1, 1, 20)])
    assert reward_difference_over_prompts(first, other, seed=0) == pytest.approx([0.1, 0.1])
    # One seed with two kinds of prompts: by the normal approximation 0.5 +- 1.96 * 0.5 / sqrt(400).
    low, high = reward_difference_over_prompts(np.zeros((1, 400)), [[0.0, 1.0] * 200], seed=1) or (0, 0)
    assert (low, high) == pytest.approx((0.451, 0.549), abs=0.006)
