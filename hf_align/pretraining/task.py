"""The task of pre-training: rows to a batch with noise, the objective on it, and the metrics that come of
it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch

from hf_align.data.packing import pack_rows, pad_rows
from hf_align.modeling.inputs import model_inputs
from hf_align.pretraining.collators import Collator, objective
from hf_align.pretraining.collators.nsp import LABELS
from hf_align.pretraining.metrics import evaluation_metrics, training_metrics
from hf_align.pretraining.objectives.masked_lm import masked_lm, masked_lm_and_pairs, masked_spans
from hf_align.training.objectives.causal_lm import causal_blocks
from hf_align.training.objectives.seq2seq import seq2seq_lm
from hf_align.training.tasks import Task
from hf_align.types import IGNORE_INDEX, LossOutput, PretrainingBatch, PretrainingRow, TokenizedRow

Rows = Sequence[PretrainingRow]


def pretraining_task(
    name: str,
    collator: Collator,
    *,
    packed: bool,
    pad_token_id: int,
    isolated: bool = True,
) -> Task:
    """The objective ``name`` on rows of ``data.pretraining``; the unit is the target token.

    ``packed``: a decoder's blocks lie side by side. ``isolated``: documents of a block do not see each other.
    """
    chosen = objective(name)
    if name == "causal":
        collate: Callable[[Rows], PretrainingBatch] = partial(
            causal_batch, packed=packed, isolated=isolated, pad_token_id=pad_token_id
        )
    else:
        collate = partial(collated_batch, name, collator)
    pairs = chosen.examples == "pairs"
    ids = [0, 0]
    example: dict[str, Any] = {"first": ids, "second": ids, "label": 0} if pairs else {"input_ids": ids}
    filler = PretrainingRow({**example, "index": 0, "epoch": 0}, len(ids), counts=False)
    return Task(
        collate=collate,
        objective=objective_function(name),
        units=len,
        filler=lambda: filler,
        unit_name="target_tokens",
        eval_metrics=evaluation_metrics,
        train_metrics=training_metrics,
        counts=lambda batch: (batch.target_tokens, batch.pairs),
        weigh=weighed if pairs else None,
        padded=not packed,
    )


def objective_function(name: str) -> Callable[[Any, PretrainingBatch], LossOutput]:
    """What is computed on a batch of the objective ``name``."""
    chosen = objective(name)
    if chosen.architecture == "encoder_decoder":
        return seq2seq_lm
    if chosen.architecture == "decoder":
        return causal_blocks
    if chosen.examples == "pairs":
        return masked_lm_and_pairs
    return masked_spans if name == "span_mlm" else masked_lm


def weighed(batch: PretrainingBatch, counts: Sequence[int]) -> PretrainingBatch:
    """The batch with the ratio of targets to pairs in its whole step."""
    targets, pairs = counts
    return replace(batch, pair_weight=targets / max(1, pairs))


def causal_batch(rows: Rows, *, packed: bool, isolated: bool, pad_token_id: int) -> PretrainingBatch:
    """Blocks for next-token prediction, side by side, or padded where a model cannot be packed."""
    segments, sources = [], []
    for row in rows:
        ids = np.asarray(row.example["input_ids"], dtype=np.int32)
        lengths = row.example.get("segment_lengths") if isolated else None
        cuts = np.cumsum(lengths or [len(ids)])[:-1]
        for piece in np.split(ids, cuts):
            mask = np.full(len(piece), row.counts)
            mask[:1] = False
            segments.append(TokenizedRow(piece, mask))
            sources.append(row.source)
    batch = pack_rows(segments) if packed else pad_rows(segments, pad_token_id)
    if packed:
        of_position = torch.tensor(sources).repeat_interleave(torch.tensor([len(one) for one in segments]))
        of_position = of_position.unsqueeze(0)
    else:
        of_position = torch.tensor(sources).unsqueeze(1).expand_as(batch.shift_labels)
    return _batch(model_inputs(batch), batch.shift_labels, of_position)


def collated_batch(name: str, collator: Collator, rows: Rows) -> PretrainingBatch:
    """What the collator of the objective ``name`` makes of the rows, as arguments of the model's forward."""
    inputs = dict(collator([row.example for row in rows]))
    labels = inputs.pop("labels")
    learned = torch.tensor([row.counts for row in rows])
    labels = labels.masked_fill(~learned[:, None], IGNORE_INDEX)
    if objective(name).architecture == "decoder":
        # The collator's labels are the ids themselves, as transformers shifts them; here they are shifted
        # once.
        ahead = torch.full_like(labels, IGNORE_INDEX)
        ahead[:, :-1] = labels[:, 1:]
        labels = ahead
    pair_labels = next((inputs.pop(key) for key in LABELS.values() if key in inputs), None)
    if pair_labels is not None:
        pair_labels = pair_labels.masked_fill(~learned, IGNORE_INDEX)
    # SpanBERT's forward takes the labels of masked language models under transformers' own name.
    inputs["labels" if "left_boundary" in inputs else "shift_labels"] = labels
    sources = torch.tensor([row.source for row in rows])
    return _batch(
        inputs,
        labels,
        sources.unsqueeze(1).expand_as(labels),
        pair_labels=pair_labels,
        pairs=0 if pair_labels is None else int(learned.sum()),
    )


def _batch(
    inputs: dict[str, Any], labels: torch.Tensor, sources: torch.Tensor, **pairs: Any
) -> PretrainingBatch:
    counted = labels != IGNORE_INDEX
    return PretrainingBatch(inputs, labels[counted], sources[counted], **pairs)
