"""What the training of a reward model adds to run.json; whoever uses the model reads it there as well."""

from __future__ import annotations

from typing import Any

from hf_align.runs.schema import BeforeAndAfter, Model, Record, entry


class RewardedModel(Model):
    """The entry ``model`` of a reward model's run."""

    shared_prefixes: bool = entry("whether answers to one prompt share its computation")
    pad_token: str = entry("the token that fills batches")


class RewardRecord(Record):
    """The entries of run.json of ``hf-align reward``."""

    model: RewardedModel = entry("the model that is trained")
    reward_evaluation: BeforeAndAfter = entry("held-out pairs: accuracy, margin, calibration, by length")
    reward_reference: dict[str, Any] = entry("`mean` and `std` of the scores of known `answers`, `source`")
