"""GRPO and RLOO against TRL's trainers: the same tiny model, answers and advantages, losses and gradients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from helpers.ppo_parts import answers, options, prompts
from helpers.tiny_checkpoint import save_tiny_checkpoint
from transformers import AutoModelForCausalLM, AutoTokenizer

from hf_align.modeling.attention.packing_probe import enable_segment_attention
from hf_align.modeling.heads.target import install_target_head
from hf_align.rl.algorithms.table import ALGORITHMS
from hf_align.rl.episodes import (
    collate_episodes,
    empty_episode,
    padded,
    trees_of,
    update_rows,
)
from hf_align.rl.value_head import PolicyWithValue
from hf_align.training.step import StepTask, compute_gradients

# TRL asks transformers for activation checkpointing by its older name.
pytestmark = pytest.mark.filterwarnings("ignore:.gradient_checkpointing. is deprecated:FutureWarning")

trl = pytest.importorskip("trl", minversion="1.16")

LENGTHS = [[3, 1], [4, 2], [2, 6], [5, 5]]
LONGEST = 6
ASKED = prompts([7, 4, 9, 5])

KINDS: dict[str, dict[str, Any]] = {
    "grpo": {"loss_type": "grpo"},
    "grpo with kl": {"loss_type": "grpo", "beta": 0.3},
    "grpo with the kl of the paper": {"loss_type": "grpo", "beta": 0.3, "use_bias_correction_kl": False},
    "gspo": {"loss_type": "grpo", "importance_sampling_level": "sequence", "epsilon": 0.05},
    "gspo with kl": {"loss_type": "grpo", "importance_sampling_level": "sequence", "beta": 0.3},
    "dapo": {"loss_type": "dapo", "epsilon_high": 0.28, "beta": 0.1},
    "dapo of sequences": {"loss_type": "dapo", "importance_sampling_level": "sequence"},
    "bnpo": {"loss_type": "bnpo"},
    "dr_grpo": {"loss_type": "dr_grpo", "beta": 0.1},
    "cispo": {"loss_type": "cispo", "epsilon_high": 1.2},
    "rloo": {"algorithm": "rloo"},
    "rloo, wider": {"algorithm": "rloo", "epsilon": 0.6},
}


def episodes() -> list[Any]:
    """Fixed answers whose recorded policies differ from the model by a few tenths of a nat per token."""
    generator = np.random.default_rng(1)
    found = answers(LENGTHS)
    for one in found:
        one.logps = generator.normal(-5.3, 0.3, len(one.tokens)).astype(np.float32)
        one.reference_logps = generator.normal(-5.3, 0.3, len(one.tokens)).astype(np.float32)
    return found


def ours(path: str, given: dict[str, Any], *, packed: bool) -> tuple[float, torch.Tensor]:
    model = AutoModelForCausalLM.from_pretrained(path)
    if packed:
        assert enable_segment_attention(model)
    install_target_head(model)
    module = PolicyWithValue(model, None)
    chosen = options(**{"algorithm": "grpo", "max_completion_length": LONGEST, "num_generations": 2, **given})
    objective = ALGORITHMS[chosen.algorithm].objective(chosen)
    found = episodes()
    columns = {
        "old_logps": padded([one.logps for one in found]),
        "reference_logps": padded([one.reference_logps for one in found]),
    }
    rollout = rollout_of(found, columns)
    columns |= ALGORITHMS[chosen.algorithm].advantages(rollout, chosen).columns
    advantages = columns["advantages"][:, 0].clone()
    rows = [row for _, row in update_rows(trees_of(ASKED, found), found, columns)]
    task = StepTask(
        collate=lambda part: collate_episodes(part, packed=packed, share_prefix=packed, pad_token_id=0),
        objective=objective,
        units=objective.units,
        filler=lambda: empty_episode(list(columns)),
        padded=not packed,
        shared=packed,
    )
    # In several micro-batches, which change nothing.
    result = compute_gradients(module, rows, task, Accelerator(cpu=True), max_tokens=30)
    return result.loss, gradient(model), advantages


def rollout_of(found: list[Any], columns: dict[str, torch.Tensor]) -> Any:
    from hf_align.losses import kl_estimate
    from hf_align.rl.algorithms.base import ScoredRollout
    from hf_align.rl.episodes import answer_mask

    mask = answer_mask(found)
    return ScoredRollout(
        prompts=torch.tensor([one.prompt for one in found]),
        scores=torch.tensor([one.reward for one in found]),
        stopped=torch.ones(len(found), dtype=torch.bool),
        mask=mask,
        logps=columns["old_logps"],
        reference_logps=columns["reference_logps"],
        kl=kl_estimate(columns["old_logps"], columns["reference_logps"]),
        values=torch.zeros_like(columns["old_logps"]),
        kl_coef=0.05,
    )


def theirs(
    path: str, given: dict[str, Any], advantages: torch.Tensor, folder: Path
) -> tuple[float, torch.Tensor]:
    from datasets import Dataset

    rloo = given.get("algorithm") == "rloo"
    trainer_class, config_class = (
        (trl.RLOOTrainer, trl.RLOOConfig) if rloo else (trl.GRPOTrainer, trl.GRPOConfig)
    )
    settings = {key: value for key, value in given.items() if key != "algorithm"}
    args = config_class(
        output_dir=str(folder),
        per_device_train_batch_size=8,
        num_generations=2,
        max_completion_length=LONGEST,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        report_to=[],
        **settings,
    )
    trainer = trainer_class(
        model=AutoModelForCausalLM.from_pretrained(path),
        reward_funcs=lambda completions, **rest: [0.0] * len(completions),
        args=args,
        train_dataset=Dataset.from_list([{"prompt": "a"}] * 8),
        processing_class=AutoTokenizer.from_pretrained(path),
    )
    trainer.current_gradient_accumulation_steps = 1
    model = trainer.model.train()
    found = episodes()
    longest = max(len(prompt.ids) for _, prompt in ASKED)
    ids = [ASKED[one.prompt][1].ids for one in found]
    inputs = {
        "prompt_ids": torch.tensor([[0] * (longest - len(one)) + list(one) for one in ids]),
        "prompt_mask": torch.tensor([[0] * (longest - len(one)) + [1] * len(one) for one in ids]),
        "completion_ids": padded([one.tokens for one in found]).long(),
        "completion_mask": padded([np.ones(len(one.tokens)) for one in found]).long(),
        "advantages": advantages,
        "old_per_token_logps": padded([one.logps for one in found]),
        "ref_per_token_logps": padded([one.reference_logps for one in found]),
        "old_logps": torch.tensor([one.logps.sum() for one in found]),
        "num_items_in_batch": torch.tensor(sum(len(one.tokens) for one in found)),
    }
    loss = trainer._compute_loss(model, inputs)
    loss.backward()
    return float(loss.detach()), gradient(model)


def gradient(model: Any) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for _, p in sorted(model.named_parameters()) if p.grad is not None])


@pytest.mark.parametrize("packed", [True, False], ids=["packed", "padded"])
@pytest.mark.parametrize("kind", KINDS)
def test_losses_and_gradients_are_those_of_trl(tmp_path: Path, kind: str, packed: bool) -> None:
    path = save_tiny_checkpoint(tmp_path / "model")
    loss, ours_gradient, advantages = ours(path, KINDS[kind], packed=packed)
    their_loss, their_gradient = theirs(path, KINDS[kind], advantages, tmp_path / "trl")
    assert loss == pytest.approx(their_loss, abs=1e-5)
    torch.testing.assert_close(ours_gradient, their_gradient, rtol=1e-4, atol=1e-6)
    assert float(ours_gradient.norm()) > 1e-3
