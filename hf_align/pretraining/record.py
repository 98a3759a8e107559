"""What pre-training adds to run.json."""

from __future__ import annotations

from typing import Any

from hf_align.runs.schema import Fields, Model, Record, entry


class PretrainedModel(Model):
    """The entry ``model`` of a pre-training run."""

    kind: str = entry("`encoder`, `encoder_decoder` or `decoder`")
    vocabulary: int | None = entry("rows of the token embeddings")
    layers: int | None = entry("of both sides of an encoder-decoder model")
    width: int | None = entry("of the hidden states")
    estimated_parameters: int | None = entry("V·H + 12·L·H²")
    training_flops_by_position: int | None = entry("operations per trained token, estimated")
    copied_embeddings: int | None = entry("embeddings that are another model's")


class HeldOutText(Fields):
    """The entry ``pretraining``."""

    objective: str = entry("as in the recipe")
    stages: list[Any] = entry(
        "`steps`, `rows`, `block_length`, `learning_rate` and `lr_scheduler_type` of each stage"
    )
    before: list[Any] = entry("metrics of each held-out data set before training")
    after: list[Any] = entry("and after it")
    averaged: list[Any] = entry("the checkpoints whose mean is the model")
    eval_loss_last: float | None = entry("held-out loss of the last weights, where the model is a mean")


class PretrainRecord(Record):
    """The entries of run.json of ``hf-align pretrain``."""

    model: PretrainedModel = entry("the model that is trained")
    pretraining: HeldOutText = entry("objective, stages and metrics of held-out text")
