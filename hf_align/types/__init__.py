"""The data that flows between the layers, with shapes and units on every field."""

from __future__ import annotations

from hf_align.types.batches import (
    Batch,
    ComparisonBatch,
    LabelledBatch,
    PretrainingBatch,
    Segments,
    UnpairedBatch,
)
from hf_align.types.examples import AnyExample, Comparison, Example, LabelledAnswer, LabelledText, Message
from hf_align.types.results import LossOutput, PairLogps
from hf_align.types.rows import (
    IGNORE_INDEX,
    ComparisonRow,
    LabelledRow,
    LazySequence,
    PretrainingRow,
    Row,
    TokenizedRow,
)

__all__ = [
    "IGNORE_INDEX",
    "AnyExample",
    "Batch",
    "Comparison",
    "ComparisonBatch",
    "ComparisonRow",
    "Example",
    "LabelledAnswer",
    "LabelledBatch",
    "LabelledRow",
    "LabelledText",
    "LazySequence",
    "LossOutput",
    "Message",
    "PairLogps",
    "PretrainingBatch",
    "PretrainingRow",
    "Row",
    "Segments",
    "TokenizedRow",
    "UnpairedBatch",
]
