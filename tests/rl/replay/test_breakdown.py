"""The breakdown of an answer adds up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.recorded_ppo_runs import STATEFUL, again_of
from helpers.tiny_ppo import make_inputs, run

from hf_align.rl.replay.breakdown import breakdowns
from hf_align.rl.replay.run import replay


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return make_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.fixture(scope="module")
def done(inputs: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four rollouts with checkpoints at 2 and 4; not to be changed."""
    folder = tmp_path_factory.mktemp("run") / "run"
    run(inputs, folder, **STATEFUL)
    return folder


def test_an_account_adds_up(done: Path) -> None:
    replayed = replay(done, 4)
    again, metrics = again_of(replayed), replayed.recording.metrics
    found = breakdowns(replayed)
    assert [one.number for one in found] == list(range(1, 9)) and found[-1].prompt == 4
    for one in found:
        assert one.reward == pytest.approx(sum(weight * value for value, weight in one.parts.values()))
        assert one.penalized == one.reward - (0 if one.stopped else 0.1)
        limited = max(-2.0, min(2.0, (one.penalized - one.moments.mean) / one.moments.std))
        assert one.score == pytest.approx(limited, abs=1e-6)
        assert one.kl_penalty == pytest.approx(
            metrics["kl_coef"] * (one.tokens["logp"] - one.tokens["reference logp"]).sum()
        )
        returns = one.tokens["raw advantage"] + one.tokens["value"]
        assert one.tokens["return"] == pytest.approx(returns, rel=1e-4, abs=1e-5)
        assert one.passes == 2 and one.tokens["clipped"].max() <= 2
    charged = [-metrics["kl_coef"] * one.tokens["kl"] for one in found]
    for one, rewards in zip(found, charged, strict=True):
        rewards[-1] += one.score
    plain = np.concatenate(charged)
    whitened = (plain - plain.mean()) / plain.std() + plain.mean()  # whiten_rewards
    assert np.concatenate([one.tokens["reward"] for one in found]) == pytest.approx(
        whitened, rel=1e-4, abs=1e-5
    )
    assert sum(one.kl for one in found) / len(found) == pytest.approx(metrics["kl"], rel=1e-5)
    assert sum(one.score for one in found) / len(found) == pytest.approx(metrics["score"])
    assert sum(one.loss or 0 for one in found) == pytest.approx(again.metrics["total_loss"], rel=1e-5)
    tokens = sum(len(one.ids) for one in found)
    mean = sum(one.tokens["advantage"].sum() for one in found) / tokens
    assert mean == pytest.approx(0, abs=1e-5), "whitened over the rollout"
