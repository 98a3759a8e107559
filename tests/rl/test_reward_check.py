"""Whether a reward can tell answers apart: by hand, and against the evaluation of a trained reward model."""

from __future__ import annotations

import json
import logging
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from helpers import tiny_rewards
from helpers.tiny_ppo import make_inputs, run
from safetensors.torch import load_file, save_file

from hf_align.rl.reward_check import cannot_tell_apart, pair_accuracy, score_distribution
from hf_align.statistics.calibration import wilson_interval
from hf_align.types import Comparison


def test_the_distribution_by_hand() -> None:
    found = score_distribution([1.0, 1.0, 2.0, 4.0], [0, 0, 1, 1])
    assert (found["answers"], found["mean"], found["min"], found["max"]) == (4, 2.0, 1.0, 4.0)
    assert found["std"] == pytest.approx(1.5**0.5)
    # Variances within the two prompts: 0 and 1. One of two pairs ties.
    assert found["within_std"] == pytest.approx(0.5**0.5) and found["ties"] == 0.5
    assert sum(found["counts"]) == 4 and len(found["edges"]) == len(found["counts"]) + 1
    alone = score_distribution([1.0, 1.0, 2.0, 4.0])
    assert alone["within_std"] is None and alone["ties"] == pytest.approx(1 / 6)
    assert cannot_tell_apart(found) == cannot_tell_apart(alone) == ""


@pytest.mark.parametrize(
    ("scores", "prompts", "expected"),
    [
        ([3.0, 3.0, 3.0], None, "all 3 first answers score 3"),
        ([1e6, 1e6 + 0.5], None, "all 2 first answers"),
        ([0.0, 0.0, 1.0, 1.0], [0, 0, 1, 1], "only the prompt makes a difference"),
        ([0.0, 0.0, 1.0, 1.0], None, ""),
        ([0.0, 0.0, 0.0, 1.0], [0, 0, 1, 1], ""),
        ([5.0], None, ""),
    ],
)
def test_what_cannot_tell_answers_apart(
    scores: list[float], prompts: list[int] | None, expected: str
) -> None:
    said = cannot_tell_apart(score_distribution(scores, prompts))
    assert said.startswith(expected) if expected.startswith("all") else expected in said
    assert bool(said) == bool(expected)


def test_the_accuracy_by_hand() -> None:
    comparisons = [
        Comparison("a", "p", ("good", "bad"), (1.0, 0.0)),
        Comparison("b", "q", ("best", "worse", "bad"), (2.0, 1.0, 1.0)),
    ]
    # The first pair is right; of the other two, best against worse is wrong and best against bad is right.
    found = pair_accuracy(comparisons, lambda given: [0.5, 0.2, 1.0, 2.0, 0.0])
    assert (found["accuracy"], found["pairs"], found["prompts"], found["ties"]) == (0.75, 3, 2, 0.0)
    assert tuple(found["accuracy_interval"]) == wilson_interval(0.75, 2)
    tied = pair_accuracy(comparisons, lambda given: [0.0] * 5)
    assert (tied["accuracy"], tied["ties"]) == (0.0, 1.0)


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str, dict[str, Any]]:
    """A reward model's run folder, its held-out pairs, and what its own run found on them."""
    folder = tmp_path_factory.mktemp("judge")
    inputs = tiny_rewards.make_inputs(folder)
    record = tiny_rewards.run(inputs, folder / "judge", num_train_epochs=1, save_strategy="no")
    return str(folder / "judge"), inputs["eval_datasets"], record["reward_evaluation"]["after"]


SHORT = {"num_rollouts": 1, "save_strategy": "no", "num_samples": 0}


def test_a_reward_model_is_checked_before_training(
    judge: tuple[str, str, dict[str, Any]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model, pairs, expected = judge
    inputs = make_inputs(tmp_path) | {"reward_functions": [], "reward_model": model}
    inputs["watch_reward_functions"] = f"{tmp_path / 'rewards.py'}:short"
    caplog.set_level(logging.INFO, logger="hf_align")
    own = run(inputs, tmp_path / "own", **SHORT)["reward_check"]
    assert list(own["pairs"]) == ["reward/judge"]
    assert own["pairs"]["reward/judge"]["source"] == f"{model}/run.json"
    assert own["pairs"]["reward/judge"]["accuracy"] == expected["accuracy"]
    assert "in the right order" in caplog.text and f"{model}/run.json" in caplog.text
    assert list(own["scores"]) == ["reward/judge", "watch/short"]
    assert own["scores"]["reward/judge"]["answers"] == 8

    given = run(inputs, tmp_path / "given", reward_check_pairs=pairs, **SHORT)["reward_check"]
    entry = given["pairs"]["reward/judge"]
    assert entry["source"] == pairs
    for key in ("accuracy", "accuracy_interval", "pairs", "prompts"):
        assert entry[key] == pytest.approx(expected[key]), key


def test_a_reward_model_without_metrics_is_said_not_to_be_checked(
    judge: tuple[str, str, dict[str, Any]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bare = Path(shutil.copytree(judge[0], tmp_path / "bare"))
    (bare / "run.json").unlink()
    caplog.set_level(logging.INFO, logger="hf_align")
    inputs = make_inputs(tmp_path) | {"reward_functions": [], "reward_model": str(bare)}
    record = run(inputs, tmp_path / "run", **SHORT)
    assert record["reward_check"]["pairs"] == {"reward/bare": {"source": None}}
    assert "reward/bare: not checked on compared answers" in caplog.text
    assert "not checked" in (tmp_path / "run" / "report.html").read_text()


def test_rewards_that_tell_nothing_apart_are_warned_of(
    judge: tuple[str, str, dict[str, Any]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    zero = Path(shutil.copytree(judge[0], tmp_path / "zero"))
    weights = load_file(zero / "model.safetensors")
    save_file(
        {name: w * (name != "score.weight") for name, w in weights.items()},
        zero / "model.safetensors",
        {"format": "pt"},
    )
    mine = make_inputs(tmp_path)
    (tmp_path / "rewards.py").write_text(
        "def by_prompt(prompts, completions, rows): return [float(len(prompt)) for prompt in prompts]\n"
    )
    rewards = {
        "reward_model": str(zero),
        "reward_check_pairs": judge[1],
        "reward_functions": f"{tmp_path / 'rewards.py'}:by_prompt",
    }
    record = run({**mine, **rewards}, tmp_path / "run", **SHORT)
    warned = record["reward_check"]["warnings"]
    assert [text.partition(":")[0] for text in warned] == [
        *("reward/zero", "reward/total", "reward/zero", "reward/by_prompt")
    ]
    assert "0.0% of 5 held-out" in warned[0] and "no better than chance" in warned[0]
    assert "all 8 first answers score 0" in warned[2] and "only the prompt" in warned[3]
    assert all(text in caplog.text for text in warned)
    saved = json.loads((tmp_path / "run" / "run.json").read_text())["reward_check"]
    assert saved["warnings"] == warned


@pytest.mark.parametrize("scores", [[0.3, 0.1 + 0.2], [1e30, 1e30], [-3.0], [1.0, 1.0 + 1e-15, 1.0]])
def test_scores_that_no_bins_divide(scores: list[float]) -> None:
    found = score_distribution(scores)
    assert sum(found["counts"]) == len(scores)
    assert all(low < high for low, high in pairwise(found["edges"]))
    assert found["edges"][0] < min(scores) and max(scores) < found["edges"][-1]
