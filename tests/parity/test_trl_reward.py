"""Reward models against TRL's RewardTrainer: the same model, pairs and settings, several steps."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.tiny_models import PACKABLE, redraw
from helpers.trl_pairs import STEPS, Logged, assert_same_weights, pairs, run_ours, run_trl
from transformers import AutoConfig, AutoModelForSequenceClassification

from hf_align.modeling.attention.packing_probe import enable_segment_attention
from hf_align.modeling.heads.reward import install_reward_head
from hf_align.reward_model.objective import reward
from hf_align.training.tasks import comparison_task
from hf_align.types import ComparisonRow

# TRL asks transformers for activation checkpointing by its older name.
pytestmark = pytest.mark.filterwarnings("ignore:.gradient_checkpointing. is deprecated:FutureWarning")

trl = pytest.importorskip("trl", minversion="1.16")


def classifier() -> Any:
    """A random Llama with one score, whose weights are large enough to make scores differ."""
    kind, options = PACKABLE["llama"]
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **options, num_labels=1)
    model = AutoModelForSequenceClassification.from_config(config, dtype=torch.float32)
    redraw(model, 0.15)
    return model


def rows(margins: bool) -> list[ComparisonRow]:
    return [replace(row, margin=i % 3 / 2) if margins else row for i, row in enumerate(pairs())]


def ours(start: Any, folder: Path, *, centering: float, margins: bool) -> Logged:
    model = copy.deepcopy(start)
    assert enable_segment_attention(model)
    install_reward_head(model)
    objective = partial(reward, centering=centering)
    task = comparison_task(objective, packed=True, share_prefix=True, pad_token_id=0)
    return run_ours(model, task, rows(margins), folder)


def theirs(start: Any, folder: Path, *, centering: float, margins: bool) -> Logged:
    from datasets import Dataset
    from trl import RewardConfig, RewardTrainer

    table = [
        {f"{which}_ids": row.sequence(k).input_ids.tolist() for k, which in enumerate(("chosen", "rejected"))}
        | ({"margin": row.margin} if margins else {})
        for row in rows(margins)
    ]
    return run_trl(
        RewardTrainer,
        RewardConfig,
        folder,
        model=copy.deepcopy(start),
        train_dataset=Dataset.from_list(table),
        settings={"center_rewards_coefficient": centering or None},
    )


@pytest.mark.parametrize(("centering", "margins"), [(0.0, False), (0.05, False), (0.0, True)])
def test_losses_scores_and_weights_agree(centering: float, margins: bool, tmp_path: Path) -> None:
    start = classifier()
    weights = {key: value.detach().clone() for key, value in start.named_parameters()}
    first = ours(start, tmp_path / "ours", centering=centering, margins=margins)
    second = theirs(start, tmp_path / "theirs", centering=centering, margins=margins)
    for our_name, their_name in (
        ("loss", "loss"),
        ("grad_norm", "grad_norm"),
        ("rewards/margins", "margin"),
        ("rewards/accuracies", "accuracy"),
    ):
        found, expected = first.metrics(our_name), second.metrics(their_name)
        assert found == pytest.approx(expected, rel=1e-4, abs=2e-5), our_name
    means = [(step["rewards/chosen"] + step["rewards/rejected"]) / 2 for step in first.steps]
    assert means == pytest.approx(second.metrics("mean_reward"), rel=1e-4, abs=2e-5)
    assert len(first.steps) == STEPS
    assert_same_weights(first, second, weights)
