"""What making a tokenizer adds to run.json."""

from __future__ import annotations

from typing import Any

from hf_align.runs.schema import Fields, Record, entry


class TokenizerMetrics(Fields):
    """The entry ``tokenizer``."""

    held_out: bool = entry("whether it was measured on text that it was not made from")
    figures: list[Any] = entry("counts of each tokenizer, this one first")
    special: list[Any] = entry("the special tokens")


class Extended(Fields):
    """The entry ``extension``: what was added to a tokenizer."""

    first_id: int | None = entry("the id of the first new token")
    count: int | None = entry("how many there are")
    model: str = entry("the class of the model whose embeddings grew")
    parameters_before: int | None = entry("of that model")
    parameters: int | None = entry("of that model, with the new embeddings")
    examples: list[Any] = entry("some new tokens, as text")


class TokenizerRecord(Record):
    """The entries of run.json of ``hf-align tokenizer``."""

    tokenizer: TokenizerMetrics = entry("counts on held-out text")
    extension: Extended = entry("what was added to a tokenizer")
    segmentations: list[Any] = entry("some texts, as each tokenizer cuts them")
