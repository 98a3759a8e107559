"""A run folder with the older names of recipe keys is replayed and resumed as one of today."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from helpers.tiny_ppo import make_inputs, run
from helpers.tiny_runs import same_weights

from hf_align.errors import UserError
from hf_align.rl.replay.recorder import FORMER
from hf_align.rl.replay.run import replay
from hf_align.rl.replay.view import as_recorded


def renamed(path: Path) -> None:
    """Write the older names into a JSON file, wherever a key of the recipe stands."""
    text = path.read_text()
    for now, then in FORMER.items():
        assert f'"{now}"' in text, path
        text = text.replace(f'"{now}"', f'"{then}"')
    path.write_text(text)


def test_older_names_in_a_run_folder_are_read(tmp_path: Path) -> None:
    inputs, whole, old = make_inputs(tmp_path), tmp_path / "whole", tmp_path / "old"
    options = {"num_rollouts": 3, "save_steps": 1, "save_total_limit": None}
    run(inputs, whole, **options)
    shutil.copytree(whole, old)
    for file in [old / "run.json", *old.glob("checkpoint-*/trainer_state.json")]:
        renamed(file)
        (file.parent / "digests.json").unlink(missing_ok=True)  # as before there were any

    replayed = replay(old, 3)
    assert as_recorded(replayed) and replayed.notes == []
    assert replayed.config.options.num_generations == 2

    for later in ("checkpoint-2", "checkpoint-3"):
        shutil.rmtree(old / later)
    resumed = {**options, "resume_from_checkpoint": "auto"}
    with pytest.raises(UserError, match="num_generations was 2 and is 3"):
        run(inputs, old, **resumed, num_generations=3)
    run(inputs, old, **resumed)
    assert same_weights(old, whole)
    assert "samples_per_prompt" not in json.loads((old / "run.json").read_text())["recipe"]
    # Recorded under either name, with nothing else changed.
    assert replay(old, 1).notes == replay(old, 3).notes == []
