"""Figures of a round and of held-out answers, by hand."""

from __future__ import annotations

import pytest
from helpers.tiny_best_of_n import answered_by

from hf_align.best_of_n.raft.metrics import final_metrics, held_out_metrics, metrics_rows, round_metrics
from hf_align.best_of_n.recipe import BestOfNOptions


def test_a_round() -> None:
    sampled = [answered_by(["a", "b"], [1.0, 3.0]), answered_by(["c", "d"], [2.0, 2.0], key="k2")]
    options = BestOfNOptions(train=True, num_generations=2)
    trained = {"final_metrics": {"steps": 4, "train_loss": 0.5}, "wall_time_seconds": 2.0}
    found = round_metrics(1, sampled, trained, options, seed=0)
    # Of the second prompt no answer is above the mean of its answers.
    assert (found["kept"], found["kept_prompts"], found["kept_reward"]) == (1, 1, 3.0)
    assert (found["pairs"], found["steps"], found["train_loss"]) == (1, 4, 0.5)


def test_held_out_answers_and_their_change() -> None:
    start = [answered_by(["a"], [float(i)], key=str(i)) for i in range(4)]
    later = [answered_by(["b"], [i + 0.5], key=str(i)) for i in range(4)]
    found = held_out_metrics(later, start, seed=0)
    assert found is not None and found["reward"] == 2.0 and found["change"] == 0.5
    assert found["change_interval"] == pytest.approx([0.5, 0.5]) and found["stopped"] == 1.0
    assert held_out_metrics([], [], seed=0) is None


def test_lines_and_final_metrics() -> None:
    curve = [{"n": 1, "reward": 1.0}, {"n": 4, "reward": 2.0}]
    held = {"prompts": 4, "reward": 1.0, "rewards": {"a": 1.0}, "stopped": 1.0, "tokens": 3.0}
    first = {"round": 0, "held_out": held}
    kept = {"kept": 5, "kept_prompts": 3, "kept_reward": 2.0, "steps": 4, "train_loss": 0.5}
    second = {"round": 1, "sampled": {"curve": curve}, "held_out": {**held, "reward": 1.5}, **kept}
    start, line = metrics_rows([first, second])
    assert start == {"step": 0, "eval_reward/total": 1.0, "eval_stopped": 1.0, "eval_tokens": 3.0}
    assert line["step"] == 1 and line["reward/best"] == 2.0 and line["kept"] == 5
    final = final_metrics([first, second])
    assert final["eval_reward/total_before"] == 1.0 and final["eval_reward/total"] == 1.5
    assert final["rounds"] == 1 and final["kept"] == 5
