"""The unpaired losses against TRL's KTOTrainer: the same model, rows and settings, several steps."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.comparisons import random_comparison
from helpers.tiny_models import tiny_model
from helpers.trl_pairs import ROWS, ROWS_PER_STEP, STEPS, Logged, assert_same_weights, run_ours, run_trl

from hf_align.data.comparisons.batches import collate_comparisons
from hf_align.kto.objective import KtoObjective, kto_task
from hf_align.kto.rows import KtoRow, mismatched
from hf_align.losses import UNPAIRED_LOSSES
from hf_align.modeling.attention.packing_probe import enable_segment_attention
from hf_align.modeling.heads.target import install_target_head
from hf_align.preference.reference import ReferencedRows, ReferencePass, reference_logps, target_ends
from hf_align.types import ComparisonRow

# TRL asks transformers for activation checkpointing by its older name.
pytestmark = pytest.mark.filterwarnings("ignore:.gradient_checkpointing. is deprecated:FutureWarning")

trl = pytest.importorskip("trl", minversion="1.16")

BETA = 0.3
_SHAPES = [(6, 5), (1, 12), (11, 4), (3, 15), (8, 7), (20, 10)]


def labelled() -> list[ComparisonRow]:
    """16 answers of random tokens, two of three desirable."""
    shapes = (_SHAPES[i % len(_SHAPES)] for i in range(ROWS))
    return [
        random_comparison(prompt, (answer,), seed=i, scores=[float(i % 3 > 0)])
        for i, (prompt, answer) in enumerate(shapes)
    ]


def others() -> list[ComparisonRow]:
    """Each prompt with the answer of the row before it in its step."""
    rows, found = labelled(), []
    for start in range(0, len(rows), ROWS_PER_STEP):
        step = rows[start : start + ROWS_PER_STEP]
        found += [mismatched(row, other) for row, other in zip(step, [step[-1], *step[:-1]], strict=True)]
    return found


def with_reference(model: Any, rows: list[ComparisonRow]) -> list[ComparisonRow]:
    how = ReferencePass(
        lambda part: collate_comparisons(part, packed=True, share_prefix=False),
        "packed",
        60,
        "fp32",
        torch.device("cpu"),
    )
    starts = target_ends(rows) - [row.target_tokens for row in rows]
    referenced = ReferencedRows(rows, reference_logps(model, rows, how, show=False), starts)
    return [referenced[i] for i in range(len(rows))]


def ours(start: Any, name: str, folder: Path, **weights: float) -> Logged:
    model = copy.deepcopy(start)
    assert enable_segment_attention(model)
    install_target_head(model)
    objective = KtoObjective(UNPAIRED_LOSSES[name], beta=BETA, **weights)
    task = kto_task(objective, packed=True, pad_token_id=0)
    answers, foreign = with_reference(model, labelled()), with_reference(model, others())
    rows: Any = [KtoRow(*both) for both in zip(answers, foreign, strict=True)]
    if name != "kto":
        rows = [dataclasses.replace(row, mismatched=None) for row in rows]
    return run_ours(model, task, rows, folder)


def theirs(start: Any, name: str, folder: Path, **weights: float) -> Logged:
    from datasets import Dataset
    from trl import KTOConfig, KTOTrainer

    rows = [
        {
            "prompt_ids": [*row.prefix.tolist(), int(row.branches[0].input_ids[0])],
            "completion_ids": row.branches[0].input_ids[1:].tolist(),
            "KL_completion_ids": other.branches[0].input_ids[1:].tolist(),
            "label": bool(row.scores[0]),
        }
        for row, other in zip(labelled(), others(), strict=True)
    ]
    return run_trl(
        KTOTrainer,
        KTOConfig,
        folder,
        model=copy.deepcopy(start),
        ref_model=copy.deepcopy(start),
        train_dataset=Dataset.from_list(rows),
        settings={"loss_type": name, "beta": BETA, **weights},
    )


@pytest.mark.parametrize(
    ("name", "weights"),
    [
        ("kto", {}),
        ("kto", {"desirable_weight": 0.7, "undesirable_weight": 1.3}),
        ("apo_zero_unpaired", {"undesirable_weight": 2.0}),
    ],
)
def test_losses_rewards_and_weights_agree(name: str, weights: dict[str, float], tmp_path: Path) -> None:
    start = tiny_model("llama")
    before = {key: value.detach().clone() for key, value in start.named_parameters()}
    first, second = (
        ours(start, name, tmp_path / "ours", **weights),
        theirs(start, name, tmp_path / "t", **weights),
    )
    assert first.metrics("loss") == pytest.approx(second.metrics("loss"), abs=1e-5)
    metrics = ["grad_norm", "rewards/chosen", "rewards/rejected", "logps/chosen", "logps/rejected"]
    for metric in [*metrics, "kl"] if name == "kto" else metrics:
        assert first.metrics(metric) == pytest.approx(second.metrics(metric), rel=1e-4, abs=2e-5), metric
    assert len(first.steps) == STEPS
    assert first.metrics("loss")[-1] < 0.9 * first.metrics("loss")[0], "the steps must not be idle"
    if name == "kto":
        assert max(first.metrics("kl")) > 0.01, "the estimate must not be idle"
    assert_same_weights(first, second, before)
