"""Checkpoints of PPO: weights, optimizer, progress and random numbers come back to the bit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.ppo_parts import models, update_tools

from hf_align.errors import UserError
from hf_align.rewards.scaling import RunningMoments
from hf_align.rl.checkpoints import Progress, load_checkpoint, save_checkpoint


def save(folder: Path, tools, progress: Progress) -> None:
    save_checkpoint(folder, tools, progress, identity={"seed": 1}, rewards={"length": "x"}, watch={})


def test_all_comes_back(tmp_path: Path) -> None:
    tools = update_tools(models())
    with torch.no_grad():
        for parameter in tools.models.module.parameters():
            parameter.add_(0.125)
    moments = RunningMoments()
    progress = Progress(rollouts=3, episodes=12, tokens=99, seconds=1.5, kl_coef=0.03, moments=moments)
    torch.manual_seed(11)
    save(tmp_path / "checkpoint-3", tools, progress)
    drawn = torch.rand(3)
    fresh = update_tools(models(seed=5))
    found = load_checkpoint(tmp_path / "checkpoint-3", fresh, rewards={"length": "x"}, force=False)
    assert found == progress and Progress.from_dict(progress.to_dict()) == progress
    for ours, theirs in zip(tools.models.module.parameters(), fresh.models.module.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert torch.equal(torch.rand(3), drawn)


def test_other_rewards_and_other_stages_are_refused(tmp_path: Path) -> None:
    tools = update_tools(models())
    save(tmp_path / "checkpoint-1", tools, Progress(rollouts=1))
    with pytest.raises(UserError, match="trained on other rewards: length has changed"):
        load_checkpoint(tmp_path / "checkpoint-1", tools, rewards={"length": "y"}, force=False)
    load_checkpoint(tmp_path / "checkpoint-1", tools, rewards={"length": "y"}, force=True)
    (tmp_path / "checkpoint-1" / "trainer_state.json").write_text('{"global_step": 1}')
    with pytest.raises(UserError, match="a checkpoint of another stage"):
        load_checkpoint(tmp_path / "checkpoint-1", tools, rewards={}, force=False)
