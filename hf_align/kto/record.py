"""What KTO adds to run.json."""

from __future__ import annotations

from hf_align.preference.record import Reference, StartCheckRecord
from hf_align.runs.schema import BeforeAndAfter, Fields, Record, entry


class Labels(Fields):
    """The entry ``labels``: how many training rows have each label, and what that says of the weights."""

    desirable: int | None = entry("training rows with a desirable answer")
    undesirable: int | None = entry("training rows with an undesirable answer")
    ratio: float | None = entry("desirable rows times their weight, over undesirable rows times theirs")
    desirable_weights: list[float] = entry("the advised `desirable_weight`, from and to, the other as it is")
    undesirable_weights: list[float] = entry("the advised `undesirable_weight`, from and to, likewise")


class KtoRecord(Record):
    """The entries of run.json of ``hf-align kto``."""

    reference: Reference = entry("what the model is compared with while it trains")
    start_check: StartCheckRecord = entry("the loss before the first step against theory")
    labels: Labels = entry("rows of each label, and the weights that go with them")
    kto_summary: BeforeAndAfter = entry("metrics of held-out rows with intervals")
