"""Comparisons to token trees: each answer is tokenised with its prompt, and what all share is split off.

The tokens of every sequence are those that the same conversation has as an example (``chat``), so a tree and
its sequences cannot differ. Targets are the tokens of the compared answers, never those of earlier turns.
Making batches is the business of ``batches``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hf_align.data.chat.rendering import Encoder
from hf_align.data.conversion.comparisons import IDENTICAL
from hf_align.data.conversion.formats import COMPARISON_FORMATS
from hf_align.data.encoding import RowEncoder
from hf_align.data.reading.raw import MalformedRow
from hf_align.types import Comparison, ComparisonRow, Example, TokenizedRow
from hf_align.types.examples import answer_turns

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class ComparisonEncoder(RowEncoder):
    """Turns comparisons into token trees. ``encoder``: made by ``make_encoder``; with ``train_on="last"`` the
    last turn of each answer is trained, with ``"assistant"`` all turns of the assistant in it."""

    encoder: Encoder

    formats = COMPARISON_FORMATS
    rows = ComparisonRow
    joins_prompts = True

    def __post_init__(self) -> None:
        if self.encoder.train_on == "all":
            raise ValueError("comparisons are trained on their answers, not on all")

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        return self.encoder.tokenizer

    def encode(self, examples: Sequence[Comparison]) -> list[ComparisonRow | MalformedRow]:
        answers = [answer_example(each, number) for each in examples for number in range(len(each.answers))]
        encoded = iter(self.encoder.encode(answers))
        return [_tree(each, [next(encoded) for _ in each.answers]) for each in examples]


def answer_example(comparison: Comparison, number: int) -> Example:
    """The prompt with answer ``number`` (from 0) as an example of its own, of which the answer is trained."""
    (*before, last) = answer_turns(comparison.answers[number])
    if isinstance(comparison.prompt, str):
        return Example(comparison.source, prompt=comparison.prompt, completion=last.content)
    prompt = [
        replace(turn, trained=False) if turn.role == "assistant" else turn for turn in comparison.prompt
    ]
    messages = (*prompt, *before, last)
    return Example(comparison.source, messages=messages, template=comparison.template)


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
    row = tree_of(rows, np.array(comparison.scores, dtype=np.float64), comparison.margin)
    if row.same_answers():
        return MalformedRow("an answer has the same tokens as one that is better or worse", IDENTICAL)
    return row


def tree_of(
    rows: Sequence[TokenizedRow], scores: npt.NDArray[np.float64], margin: float | None = None
) -> ComparisonRow:
    """The sequences as a tree: what they share (``shared_length``), then the rest of each."""
    shared = shared_length(rows)
    branches = tuple(
        TokenizedRow(row.input_ids[shared:].copy(), row.target_mask[shared:].copy(), row.source)
        for row in rows
    )
    return ComparisonRow(rows[0].input_ids[:shared].copy(), branches, scores, margin, rows[0].source)


def shared_length(rows: Sequence[TokenizedRow]) -> int:
    """Tokens that all sequences have in common at their start, before the position that predicts an answer.

    So a branch begins with the token before the first target of its answer or earlier, where the tokens of
    the sequences part before that. Where an answer has no target at all, its last token stays out.
    """
    return common_start([row.input_ids[: _last_before_target(row.target_mask)] for row in rows])


def common_start(sequences: Sequence[npt.NDArray[np.int32]]) -> int:
    """How many tokens all sequences begin with."""
    first = sequences[0]
    shared = min(map(len, sequences))
    for other in sequences[1:]:
        differing = np.flatnonzero(other[:shared] != first[:shared])
        shared = int(differing[0]) if len(differing) else shared
    return shared


def _last_before_target(target_mask: npt.NDArray[np.bool_]) -> int:
    """Where the token before the first target stands; the last token where there is no target."""
    targets = np.flatnonzero(target_mask)
    return max(0, (int(targets[0]) if len(targets) else len(target_mask)) - 1)
