"""The data that flows between the layers, with shapes and units on every field."""

from __future__ import annotations

from hf_align.types.batches import Batch, ComparisonBatch, LabelledBatch, PretrainingBatch, Segments
from hf_align.types.examples import Comparison, Example, LabelledText, Message
from hf_align.types.results import LossOutput, PairLogps
from hf_align.types.rows import IGNORE_INDEX, ComparisonRow, LabelledRow, PretrainingRow, TokenizedRow

__all__ = [
    "IGNORE_INDEX",
    "Batch",
    "Comparison",
    "ComparisonBatch",
    "ComparisonRow",
    "Example",
    "LabelledBatch",
    "LabelledRow",
    "LabelledText",
    "LossOutput",
    "Message",
    "PairLogps",
    "PretrainingBatch",
    "PretrainingRow",
    "Segments",
    "TokenizedRow",
]
