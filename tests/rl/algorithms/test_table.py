"""An algorithm is its advantages, its loss and a line in the table: the loop and the replay do the rest."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.recorded_ppo_runs import again_of
from helpers.tiny_ppo import make_inputs, run

from hf_align.commands import ppo
from hf_align.losses import kl_estimate, policy_loss
from hf_align.modeling.inputs import model_inputs
from hf_align.rl.algorithms.base import Advantages, Algorithm, ScoredRollout, TokenObjective, ratio_metrics
from hf_align.rl.algorithms.table import ALGORITHMS
from hf_align.rl.episodes import EpisodeBatch
from hf_align.rl.recipe import PpoOptionsConfig
from hf_align.rl.replay.breakdown import breakdowns
from hf_align.rl.replay.run import replay
from hf_align.rl.replay.view import as_recorded
from hf_align.rl.value_head import VALUE_FILE


def group_advantages(rollout: ScoredRollout, options: PpoOptionsConfig) -> Advantages:
    """The score against the other answers to the prompt (Shao et al. 2024, arXiv 2402.03300)."""
    relative = torch.zeros_like(rollout.scores)
    for prompt in rollout.prompts.unique():
        mine = rollout.prompts == prompt
        group = rollout.scores[mine]
        relative[mine] = (group - group.mean()) / (group.std() + 1e-4)
    return Advantages({"advantages": torch.where(rollout.mask, relative[:, None], 0.0)}, {"groups": 1.0})


@dataclass(frozen=True)
class GroupObjective(TokenObjective):
    options: PpoOptionsConfig

    def of_tokens(
        self, module: torch.nn.Module, batch: EpisodeBatch
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        logps = module(**model_inputs(batch.inputs), temperature=self.options.temperature)["logps"]
        old, clip = batch.columns["old_logps"], self.options.clip_range
        policy = policy_loss(logps, old, batch.columns["advantages"], clip_range=clip)
        divergence = kl_estimate(logps, batch.columns["reference_logps"], kind="k3")
        losses = policy + self.options.kl_coef * divergence
        return losses, {
            "policy_loss": policy,
            "kl_loss": divergence,
            **ratio_metrics(logps, old, clip_range=clip),
        }


@pytest.mark.parametrize("adapter", [{}, {"adapter": "lora", "lora_r": 4}], ids=["full", "lora"])
def test_a_group_relative_advantage_runs_is_resumed_and_replayed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, adapter: dict[str, Any]
) -> None:
    monkeypatch.setitem(ALGORITHMS, "group", Algorithm(group_advantages, GroupObjective))
    monkeypatch.setattr(PpoOptionsConfig, "algorithm", "group")
    folder = tmp_path / "run"
    record = run(
        make_inputs(tmp_path), folder, num_rollouts=2, save_steps=1, save_total_limit=None, **adapter
    )
    assert record["status"] == "completed" and (folder / "report.html").is_file()
    assert not (folder / VALUE_FILE).exists(), "there is no value model"
    replayed = replay(folder, 2)
    assert as_recorded(replayed) and again_of(replayed).base.step == 1
    metrics = replayed.recording.metrics
    assert {"groups", "kl_loss", "policy_loss"} <= set(metrics) and "value_loss" not in metrics
    found = breakdowns(replayed)
    for one, other in zip(found[::2], found[1::2], strict=True):
        # Two answers to a prompt: their advantages cancel out, and both have that of their group.
        assert one.advantage == pytest.approx(-other.advantage, abs=1e-5)
    assert sum(one.loss or 0 for one in found) == pytest.approx(metrics["total_loss"], rel=1e-4, abs=1e-7)
    shown = ppo.replay(str(folder), 2, episode=1)
    assert shown["differing"] == [] and Path(shown["page"]).is_file()
