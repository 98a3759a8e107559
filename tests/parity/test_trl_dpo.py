"""DPO and its family against TRL's DPOTrainer: the same model, pairs and settings, several steps."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.tiny_models import tiny_model
from helpers.trl_pairs import STEPS, Logged, assert_same_weights, pairs, run_ours, run_trl

from hf_align.data.comparisons.batches import collate_comparisons
from hf_align.modeling.attention.packing_probe import enable_segment_attention
from hf_align.modeling.heads.target import install_target_head
from hf_align.preference.objective import PreferenceObjective, loss_terms
from hf_align.preference.reference import ReferencedRows, ReferencePass, reference_logps, target_ends
from hf_align.training.tasks import comparison_task
from hf_align.types import ComparisonRow

# TRL asks transformers for activation checkpointing by its older name.
pytestmark = pytest.mark.filterwarnings("ignore:.gradient_checkpointing. is deprecated:FutureWarning")

trl = pytest.importorskip("trl", minversion="1.16")

OPTIONS = {"beta": 0.3, "label_smoothing": 0.0, "ipo_reduction": "mean", "simpo_gamma": 0.5}
OWN = ("ld_alpha", "use_weighting")
"""Options of the objective, not of a loss."""
LOGGED = [
    "rewards/chosen",
    "rewards/rejected",
    "rewards/margins",
    "rewards/accuracies",
    "logps/chosen",
    "logps/rejected",
]


def with_reference(model: Any, rows: list[ComparisonRow]) -> list[ComparisonRow]:
    """Log-probabilities of the untrained model, computed before training."""
    how = ReferencePass(
        lambda part: collate_comparisons(part, packed=True), False, 60, "fp32", torch.device("cpu")
    )
    ends = target_ends(rows)
    starts = ends - [row.target_tokens for row in rows]
    referenced = ReferencedRows(rows, reference_logps(model, rows, how, show=False), starts)
    return [referenced[i] for i in range(len(rows))]


def ours(start: Any, name: str, folder: Path, **options: Any) -> Logged:
    model = copy.deepcopy(start)
    assert enable_segment_attention(model)
    install_target_head(model)
    own = {key: options.pop(key) for key in OWN if key in options}
    terms = loss_terms([name], None, OPTIONS | options)
    objective = PreferenceObjective(terms, beta=OPTIONS["beta"], **own)
    task = comparison_task(
        objective,
        packed=True,
        share_prefix=True,
        pad_token_id=0,
        survey=objective.survey if objective.needs_the_step else None,
        inform=lambda batch, among: dataclasses.replace(batch, among=among),
    )
    return run_ours(model, task, with_reference(model, pairs()), folder)


def theirs(start: Any, name: str, folder: Path, **options: Any) -> Logged:
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    rows = [
        {
            "prompt_ids": [*row.prefix.tolist(), int(row.branches[0].input_ids[0])],
            "chosen_ids": row.branches[0].input_ids[1:].tolist(),
            "rejected_ids": row.branches[1].input_ids[1:].tolist(),
        }
        for row in pairs()
    ]
    return run_trl(
        DPOTrainer,
        DPOConfig,
        folder,
        model=copy.deepcopy(start),
        ref_model=copy.deepcopy(start),
        train_dataset=Dataset.from_list(rows),
        settings={"loss_type": [name], "beta": OPTIONS["beta"], **options},
    )


@pytest.mark.parametrize(
    ("name", "trl_name", "options"),
    [
        ("dpo", "sigmoid", {}),
        ("ipo", "ipo", {}),
        ("hinge", "hinge", {}),
        ("robust", "robust", {"label_smoothing": 0.2}),
        ("apo_zero", "apo_zero", {}),
        ("aot", "aot", {}),
        ("aot_unpaired", "aot_unpaired", {"label_smoothing": 0.1}),
        ("dpo", "sigmoid", {"use_weighting": True}),
        ("dpo", "sigmoid", {"ld_alpha": 0.3}),
    ],
)
def test_losses_rewards_and_weights_agree(
    name: str, trl_name: str, options: dict[str, float], tmp_path: Path
) -> None:
    start = tiny_model("llama")
    weights = {key: value.detach().clone() for key, value in start.named_parameters()}
    first = ours(start, name, tmp_path / "ours", **options)
    second = theirs(start, trl_name, tmp_path / "theirs", **options)
    # TRL's rewards are those of the weighed tokens; ours are of the whole answers.
    logged = [] if "ld_alpha" in options else LOGGED
    for metric in ["loss", "grad_norm", *logged]:
        assert first.metrics(metric) == pytest.approx(second.metrics(metric), rel=1e-4, abs=2e-5), metric
    assert len(first.steps) == STEPS
    if "use_weighting" not in options:
        assert first.metrics("loss")[-1] < 0.9 * first.metrics("loss")[0], "the steps must not be idle"
    assert_same_weights(first, second, weights)
