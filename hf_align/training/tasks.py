"""What a stage trains: what a batch is, what is computed on it, and which metrics come of it.

A :class:`Task` is all that the trainer knows of a stage; the functions make those of the stages. What this
leaves out: pre-training, whose batches say themselves what counts (``pretraining``), and the training loop.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from hf_align.data.comparisons.batches import collate_comparisons, without_pairs
from hf_align.data.packing import pack_rows, pad_rows
from hf_align.data.seq2seq import collate_seq2seq
from hf_align.losses import perplexity
from hf_align.training.objectives.causal_lm import causal_lm
from hf_align.training.objectives.seq2seq import seq2seq_lm
from hf_align.training.step import StepTask
from hf_align.types import LossOutput, TokenizedRow


@dataclass(frozen=True, kw_only=True)
class Task(StepTask):
    """A step's task, and what is logged of it. ``unit_name``: what its units are called in the log.

    ``train_metrics``: (sums, units) of the steps since the last logged one to metrics for the log.
    ``eval_metrics``: (mean loss, units, sums, details) of an evaluation to its metrics, without the prefix
    ``eval_``; details hold one array a name, over all rows. ``check_first_step``: called with the mean
    metrics of the first step of a run, before the optimizer moves anything; raises where they are wrong.
    """

    unit_name: str
    eval_metrics: Callable[[float, int, dict[str, float], dict[str, Any]], dict[str, float]]
    train_metrics: Callable[[dict[str, float], int], dict[str, float]] | None = None
    check_first_step: Callable[[dict[str, float]], None] | None = None


def language_model_task(*, packed: bool, pad_token_id: int) -> Task:
    """Next-token prediction; the unit is the target token, counted by its weight."""
    return Task(
        collate=pack_rows if packed else partial(pad_rows, pad_token_id=pad_token_id),
        objective=causal_lm,
        units=lambda row: row.weighted_targets,
        filler=_without_targets,
        unit_name="target_tokens",
        eval_metrics=_language_model_metrics,
        padded=not packed,
    )


def seq2seq_task(*, pad_token_id: int) -> Task:
    """The answer of an encoder-decoder model to a prompt; the unit is the target token."""
    return Task(
        collate=partial(collate_seq2seq, pad_token_id=pad_token_id),
        objective=seq2seq_lm,
        units=lambda row: row.target_tokens,
        filler=_without_targets,
        unit_name="target_tokens",
        eval_metrics=_language_model_metrics,
        padded=True,
    )


def comparison_task(
    objective: Callable[[Any, Any], LossOutput],
    *,
    packed: bool,
    share_prefix: bool,
    pad_token_id: int,
    **options: Any,
) -> Task:
    """Learning from compared answers; the unit is the prompt, and every metric is a mean over prompts.

    ``options``: further fields of :class:`Task`, or others in place of those given here.
    """
    collate = partial(
        collate_comparisons, packed=packed, share_prefix=share_prefix, pad_token_id=pad_token_id
    )
    fields: dict[str, Any] = {
        "collate": collate,
        "objective": objective,
        "units": lambda row: 1,
        "filler": without_pairs,
        "unit_name": "prompts",
        "eval_metrics": comparison_metrics,
        "train_metrics": lambda sums, units: {name: value / units for name, value in sums.items()},
        "padded": not packed,
        "shared": share_prefix,
    }
    return Task(**(fields | options))


def comparison_metrics(
    loss: float, units: int, sums: dict[str, float], details: dict[str, Any]
) -> dict[str, float]:
    """Means over prompts of what the objective sums up."""
    return {"loss": loss, **{name: value / units for name, value in sums.items()}, "prompts": units}


def _language_model_metrics(
    loss: float, units: float, sums: dict[str, float], details: dict[str, Any]
) -> dict[str, float]:
    return {
        "loss": loss,
        "perplexity": perplexity(loss),
        "token_accuracy": sums["correct"] / units,
        "target_tokens": units,
    }


def _without_targets() -> TokenizedRow:
    """A row that costs two tokens and adds nothing to the loss."""
    return TokenizedRow(np.zeros(2, dtype=np.int32), np.zeros(2, dtype=bool))
