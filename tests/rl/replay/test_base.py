"""What a replay begins with: the newest whole weights, and what is other than when it was recorded."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from helpers.recorded_ppo_runs import STATEFUL, again_of
from helpers.tiny_ppo import make_inputs, run

from hf_align.rl.replay.breakdown import breakdowns
from hf_align.rl.replay.recording import path_of, recorded_steps
from hf_align.rl.replay.run import differing, replay
from hf_align.rl.replay.view import as_recorded, verdict


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return make_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.fixture(scope="module")
def done(inputs: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four rollouts with checkpoints at 2 and 4; not to be changed."""
    folder = tmp_path_factory.mktemp("run") / "run"
    run(inputs, folder, **STATEFUL)
    return folder


@pytest.fixture
def copy(done: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(done, tmp_path / "copy"))


def test_without_weights_to_begin_with_the_record_alone_is_shown(copy: Path) -> None:
    shutil.rmtree(copy / "checkpoint-2")
    again_of(replay(copy, 4))  # from the start: all rollouts are there
    path_of(copy, 2).unlink()
    replayed = replay(copy, 4)
    assert replayed.again is None
    assert "those of the start of training, and of the rollouts from there on 2 is not" in replayed.why_not
    assert breakdowns(replayed)[0].loss is None and "ratio" not in breakdowns(replayed)[0].tokens
    assert "this is what was recorded" in verdict(replayed)[0]
    assert again_of(replay(copy, 1)).base.step == 0


def test_a_checkpoint_that_is_not_whole_is_passed_over(copy: Path) -> None:
    (copy / "checkpoint-2" / "optimizer.pt").unlink()
    assert again_of(replay(copy, 3)).base.step == 0


def test_a_run_that_began_from_a_checkpoint_elsewhere(
    inputs: dict[str, Any], done: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "further"
    run(inputs, folder, **STATEFUL, resume_from_checkpoint=str(done / "checkpoint-2"))
    assert recorded_steps(folder) == [3, 4]
    replayed = replay(folder, 4)
    assert again_of(replayed).base.checkpoint == done / "checkpoint-2" and as_recorded(replayed)


def test_another_recipe_is_noticed(copy: Path) -> None:
    record = json.loads((copy / "run.json").read_text())
    recipe = record["recipe"] | {"clip_range": 0.01}
    (copy / "run.json").write_text(json.dumps(record | {"recipe": recipe}))
    replayed = replay(copy, 4)
    assert any("resumed with force_resume" in note for note in replayed.notes)
    assert "clip_fraction" in differing(replayed.recording.metrics, again_of(replayed).metrics)
