"""Single answers with a label to rows, each a tree with one branch, and the counts of both labels.

The tokens are those that the same conversation has as an example (``chat``); the target is the answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hf_align.data.chat.rendering import Encoder, make_encoder
from hf_align.data.comparisons.encoding import tree_of
from hf_align.data.conversion.formats import UNPAIRED_FORMATS
from hf_align.data.encoding import RowEncoder
from hf_align.data.prepare import PreparedData, prepare_rows
from hf_align.data.reading.raw import MalformedRow
from hf_align.types import ComparisonRow, Example, LabelledAnswer, Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from hf_align.config import DataConfig


@dataclass(frozen=True)
class UnpairedEncoder(RowEncoder):
    """Labelled answers to rows of one answer. ``encoder``: made by ``make_encoder`` with
    ``train_on="last"``."""

    encoder: Encoder

    formats = UNPAIRED_FORMATS
    rows = ComparisonRow
    joins_prompts = True

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        return self.encoder.tokenizer

    def encode(self, examples: Sequence[LabelledAnswer]) -> list[ComparisonRow | MalformedRow]:
        encoded = self.encoder.encode([labelled_example(one) for one in examples])
        return [
            row if isinstance(row, MalformedRow) else tree_of([row], np.array([float(one.desirable)]))
            for one, row in zip(examples, encoded, strict=True)
        ]


def prepare_unpaired(data: DataConfig, tokenizer: PreTrainedTokenizerBase, *, seed: int) -> PreparedData:
    """As ``prepare_rows``, for labelled answers."""
    encoder = make_encoder(
        tokenizer,
        train_on="last",
        add_eos=data.add_eos,
        require_end_of_turn=data.require_end_of_turn,
        keep_reasoning=data.keep_reasoning,
    )
    return prepare_rows(data, UnpairedEncoder(encoder), seed=seed)


def labelled_example(labelled: LabelledAnswer) -> Example:
    """The prompt with its answer, as an example to learn from."""
    if isinstance(labelled.prompt, str):
        return Example(labelled.source, prompt=labelled.prompt, completion=labelled.answer)
    messages = (*labelled.prompt, Message("assistant", labelled.answer))
    return Example(labelled.source, messages=messages, template=labelled.template)


def label_counts(rows: Sequence[ComparisonRow]) -> tuple[int, int]:
    """(desirable, undesirable) rows."""
    desirable = sum(bool(rows[i].scores[0] > 0) for i in range(len(rows)))
    return desirable, len(rows) - desirable
