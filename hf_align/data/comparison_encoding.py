"""Comparisons to token trees: each answer is tokenised with its prompt, and what all share is split off.

The tokens of every sequence are those that the same conversation has as an example (``chat``), so a tree and
its sequences cannot differ. Targets are the tokens of the compared answers, never those of earlier turns.
Cutting long rows is the business of ``lengths``, making batches that of ``comparison_batches``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hf_align.data.chat import Encoder
from hf_align.data.comparison_conversion import IDENTICAL
from hf_align.data.lengths import same_answers
from hf_align.data.raw import MalformedRow
from hf_align.types import Comparison, ComparisonRow, Example, Message, TokenizedRow

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class ComparisonEncoder:
    """Turns comparisons into token trees. ``encoder``: made by ``make_encoder`` with ``train_on="last"``."""

    encoder: Encoder

    def __post_init__(self) -> None:
        if self.encoder.train_on != "last":
            raise ValueError(f"comparisons are trained on their last turn, not on {self.encoder.train_on!r}")

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        return self.encoder.tokenizer

    def encode(self, comparisons: Sequence[Comparison]) -> list[ComparisonRow | MalformedRow]:
        """A tree, or the reason why there is none, for each comparison in order.

        Errors: ``UserError`` where the tokenizer or its chat template cannot serve rows of this kind.
        """
        examples = [
            answer_example(comparison, number)
            for comparison in comparisons
            for number in range(len(comparison.answers))
        ]
        encoded = iter(self.encoder.encode(examples))
        return [_tree(comparison, [next(encoded) for _ in comparison.answers]) for comparison in comparisons]


def answer_example(comparison: Comparison, number: int) -> Example:
    """The prompt with answer ``number`` (from 0) as an example of its own."""
    answer = comparison.answers[number]
    if isinstance(comparison.prompt, str):
        return Example(comparison.source, prompt=comparison.prompt, completion=answer)
    return Example(comparison.source, messages=(*comparison.prompt, Message("assistant", answer)))


def best_answer_example(comparison: Comparison) -> Example:
    """The prompt with its best answer, the first of them where several tie."""
    return answer_example(comparison, comparison.scores.index(max(comparison.scores)))


def _tree(
    comparison: Comparison, sequences: Sequence[TokenizedRow | MalformedRow]
) -> ComparisonRow | MalformedRow:
    rows: list[TokenizedRow] = []
    for number, sequence in enumerate(sequences, start=1):
        if isinstance(sequence, MalformedRow):
            return MalformedRow(f"answer {number}: {sequence}", sequence.kind)
        rows.append(sequence)
    shared = shared_length(rows)
    row = ComparisonRow(
        prefix=rows[0].input_ids[:shared].copy(),
        branches=tuple(
            TokenizedRow(row.input_ids[shared:].copy(), row.target_mask[shared:].copy(), row.source)
            for row in rows
        ),
        scores=np.array(comparison.scores, dtype=np.float64),
        margin=comparison.margin,
        source=comparison.source,
    )
    if same_answers(row):
        return MalformedRow("an answer has the same tokens as one that is better or worse", IDENTICAL)
    return row


def shared_length(rows: Sequence[TokenizedRow]) -> int:
    """Tokens that all sequences have in common at their start, before the position that predicts an answer.

    So a branch begins with the token before the first target of its answer or earlier, where the tokens of
    the sequences part before that. Where an answer has no target at all, its last token stays out.
    """
    first = rows[0].input_ids
    shared = min(_last_before_target(row.target_mask) for row in rows)
    for row in rows[1:]:
        length = min(shared, len(row))
        differing = np.flatnonzero(row.input_ids[:length] != first[:length])
        shared = int(differing[0]) if len(differing) else length
    return shared


def _last_before_target(target_mask: npt.NDArray[np.bool_]) -> int:
    """Where the token before the first target stands; the last token where there is no target."""
    targets = np.flatnonzero(target_mask)
    return max(0, (int(targets[0]) if len(targets) else len(target_mask)) - 1)
