"""Classification: cross-entropy of the label of each sequence, and the task that trains it."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F

from hf_align.classify.batches import collate_labelled, without_label
from hf_align.classify.metrics import classification_metrics
from hf_align.modeling.inputs import classification_inputs
from hf_align.training.tasks import Task
from hf_align.types import IGNORE_INDEX, LabelledBatch, LossOutput


def classification(model: torch.nn.Module, batch: LabelledBatch) -> LossOutput:
    """-log p(label) of every row in nats, summed; the unit is the row.

    ``model``: a sequence classifier with a sequence head installed, wrapped or not. The details are those of
    rows with a label: ``numbers``, ``labels``, ``predictions`` and ``probabilities`` of what is predicted.
    """
    logits = model(**classification_inputs(batch))["logits"]
    labels = batch.labels
    loss = F.cross_entropy(logits, labels, ignore_index=IGNORE_INDEX, reduction="sum")
    counted = labels != IGNORE_INDEX
    probabilities, predictions = logits.detach().softmax(-1).max(-1)
    return LossOutput(
        loss_sum=loss,
        count=int(counted.sum()),
        metrics={"correct": ((predictions == labels) & counted).sum()},
        details={
            "numbers": batch.numbers[counted],
            "labels": labels[counted],
            "predictions": predictions[counted],
            "probabilities": probabilities[counted],
        },
    )


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
            **classification_metrics(details, classes),
            "rows": units,
        },
        train_metrics=lambda sums, units: {"accuracy": sums["correct"] / units},
        padded=not packed,
    )
