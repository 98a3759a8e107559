"""The tasks that stages train: what a batch is, what is computed on it, and which figures come of it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from hf_align.data.comparison_batches import collate_comparisons, without_pairs
from hf_align.data.labelled_batches import collate_labelled, without_label
from hf_align.data.packing import pack_rows, pad_rows
from hf_align.data.seq2seq import collate_seq2seq
from hf_align.evaluation.classification import figures
from hf_align.losses import perplexity
from hf_align.objectives.causal_lm import causal_lm
from hf_align.objectives.classification import classification
from hf_align.objectives.seq2seq import seq2seq_lm
from hf_align.training.trainer import Task
from hf_align.types import IGNORE_INDEX, LossOutput, TokenizedRow


def language_model_task(*, packed: bool, pad_token_id: int) -> Task:
    """Next-token prediction; the unit is the target token."""
    return Task(
        collate=pack_rows if packed else partial(pad_rows, pad_token_id=pad_token_id),
        objective=causal_lm,
        units=lambda row: row.target_tokens,
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


def classification_task(*, packed: bool, pad_token_id: int, segment_ids: bool, classes: int) -> Task:
    """The label of each row; the unit is the row."""
    return Task(
        collate=partial(collate_labelled, packed=packed, pad_token_id=pad_token_id, segment_ids=segment_ids),
        objective=classification,
        units=lambda row: int(row.label != IGNORE_INDEX),
        filler=without_label,
        unit_name="rows",
        eval_metrics=lambda loss, units, sums, details: {
            "loss": loss,
            **figures(details, classes),
            "rows": units,
        },
        train_metrics=lambda sums, units: {"accuracy": sums["correct"] / units},
        padded=not packed,
    )


def comparison_metrics(
    loss: float, units: int, sums: dict[str, float], details: dict[str, Any]
) -> dict[str, float]:
    """Means over prompts of what the objective sums up."""
    return {"loss": loss, **{name: value / units for name, value in sums.items()}, "prompts": units}


def _language_model_metrics(
    loss: float, units: int, sums: dict[str, float], details: dict[str, Any]
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
