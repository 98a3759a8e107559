"""The data that flows between the layers, with shapes and units on every field.

Letters: S segments (sequences of a packed row), T tokens of a micro-batch row, B rows of a batch,
N target tokens of a micro-batch, K answers of a prompt, A answers and Q pairs of answers of a micro-batch.
A *target* is a token that the model is trained to predict.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

IGNORE_INDEX = -100
"""The label of a position whose next token does not count in the loss (PyTorch's convention)."""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation. ``role`` is ``system``, ``user``, ``assistant`` or ``tool``."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Example:
    """One row of a data set in canonical form: exactly one of the three kinds is set.

    ``messages``: a conversation, rendered with the model's chat template.
    ``prompt`` and ``completion``: plain strings, joined without a template.
    ``text``: a plain document, every token of which is a target.
    ``source`` names the place the row came from, for example ``data/orders_en.jsonl:12``.
    """

    source: str
    messages: tuple[Message, ...] | None = None
    prompt: str | None = None
    completion: str | None = None
    text: str | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """One prompt with K >= 2 answers that people or a model have compared.

    ``prompt``: the turns before the answer, to be rendered with the chat template, or a plain string that is
    joined with the answer as it stands. ``answers``: the content of the closing assistant turn, or the
    completion. ``scores`` (K,): higher is better, equal is a tie; only their order counts. ``margin``: by
    how much the better answer of a pair should win, in the reward's own unit, where the data say so.
    """

    source: str
    prompt: tuple[Message, ...] | str
    answers: tuple[str, ...]
    scores: tuple[float, ...]
    margin: float | None = None


@dataclass(frozen=True, slots=True)
class TokenizedRow:
    """One tokenised sequence of L tokens.

    ``input_ids`` (L,) int32. ``target_mask`` (L,) bool: True where the token itself is a target, so
    where the position before it is trained to predict it. ``target_mask[0]`` is always False: nothing
    comes before the first token.
    """

    input_ids: npt.NDArray[np.int32]
    target_mask: npt.NDArray[np.bool_]
    source: str = ""

    def __len__(self) -> int:
        return len(self.input_ids)

    @property
    def target_tokens(self) -> int:
        return int(self.target_mask.sum())


@dataclass(frozen=True, slots=True)
class ComparisonRow:
    """One prompt with K answers, tokenised as a tree: what all answers share, then a branch for each.

    ``prefix`` (P,) int32, possibly empty. ``branches``: the rest of each sequence. A branch begins with the
    last token before the answer (the position that predicts the answer's first token), so its first token is
    never a target; ``prefix`` followed by ``branches[k].input_ids`` is the whole k-th sequence.
    ``scores`` (K,) float64 and ``margin`` as in :class:`Comparison`. ``reference_logps``: for each branch the
    log-probabilities of its targets under the reference model, (targets,) float32 in nats, or None.
    """

    prefix: npt.NDArray[np.int32]
    branches: tuple[TokenizedRow, ...]
    scores: npt.NDArray[np.float64]
    margin: float | None = None
    source: str = ""
    reference_logps: tuple[npt.NDArray[np.float32], ...] | None = None

    def __len__(self) -> int:
        """Tokens that are computed: the prefix once, and every branch."""
        return len(self.prefix) + sum(len(branch) for branch in self.branches)

    @property
    def target_tokens(self) -> int:
        return sum(branch.target_tokens for branch in self.branches)

    def sequence(self, k: int) -> TokenizedRow:
        """The whole k-th sequence: prefix and branch."""
        branch = self.branches[k]
        return TokenizedRow(
            np.concatenate([self.prefix, branch.input_ids]),
            np.concatenate([np.zeros(len(self.prefix), dtype=bool), branch.target_mask]),
            self.source,
        )

    def pairs(self) -> list[tuple[int, int]]:
        """(better, worse) for every two answers that do not tie."""
        order = range(len(self.branches))
        return [(i, j) for i in order for j in order if self.scores[i] > self.scores[j]]


@dataclass(frozen=True, slots=True)
class LabelledText:
    """A text, or a pair of texts, and the name of its class."""

    source: str
    text: str
    pair: str | None
    label: str


@dataclass(frozen=True, slots=True)
class LabelledRow(TokenizedRow):
    """A sequence to be classified; none of its tokens is a target.

    ``label``: the number of its class, or -100 where the row counts in no loss. ``segment_ids`` (L,) int32:
    which of two texts a token is of, where the tokenizer says so. ``number``: its place among the rows of
    its kind.
    """

    label: int = IGNORE_INDEX
    segment_ids: npt.NDArray[np.int32] | None = None
    number: int = -1


@dataclass(frozen=True)
class Segments:
    """Boundaries of the S sequences that are concatenated in one packed row of T tokens.

    ``starts`` and ``lengths`` (S,) are Python integers, so that no kernel launch waits for a device;
    ``cu_seqlens`` (S+1,) int32 holds the cumulative lengths on the model's device, starting with 0.

    ``parents`` (S,), empty where no segment has one: the segment whose tokens come before this one's, or -1.
    A parent stands before its children and has none itself. A child attends to all of its parent and to
    itself. Where there are parents, ``key_index`` (T_k,) int64 lists the positions of the keys of every
    segment in turn (its parent's, then its own), and ``cu_seqlens_k`` (S+1,) int32 where each list starts.
    """

    starts: tuple[int, ...]
    lengths: tuple[int, ...]
    cu_seqlens: torch.Tensor
    parents: tuple[int, ...] = ()
    key_index: torch.Tensor | None = None
    cu_seqlens_k: torch.Tensor | None = None

    @property
    def max_length(self) -> int:
        return max(self.lengths)

    @property
    def key_lengths(self) -> tuple[int, ...]:
        """(S,) keys that the last token of each segment sees: its parent's tokens and its own."""
        if not self.parents:
            return self.lengths
        return tuple(
            length + (self.lengths[parent] if parent >= 0 else 0)
            for length, parent in zip(self.lengths, self.parents, strict=True)
        )


@dataclass(frozen=True)
class Batch:
    """One micro-batch, packed (``segments`` set, B = 1) or padded (``attention_mask`` set).

    ``input_ids``, ``position_ids``, ``shift_labels``: (B, T) int64. ``shift_labels[b, t]`` is the token
    predicted from position t, or -100 where none counts. ``attention_mask`` (B, T): 1 for real tokens.
    ``target_tokens``: how many labels count. ``tokens``: how many positions are real tokens.
    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    shift_labels: torch.Tensor
    target_tokens: int
    tokens: int
    segments: Segments | None = None
    attention_mask: torch.Tensor | None = None


@dataclass(frozen=True)
class ComparisonBatch:
    """One micro-batch of compared answers: A answers to G prompts.

    ``inputs``: packed with each prompt's prefix as the parent of its answers, or padded with one answer a
    row. ``target_answers`` (N,) int64: the answer that each target of ``inputs`` belongs to, in row-major
    order. ``last_tokens`` (A,) int64: where in ``inputs`` (counted through its rows) the last token of each
    answer stands. ``answer_lengths`` (A,) int64: target tokens of each answer.

    ``better`` and ``worse`` (Q,) int64: the answers of each pair. ``pair_weights`` (Q,) float32: one over the
    pairs of the same prompt, so that every prompt counts once. ``margins`` (Q,) float32, 0 where the data
    give none. ``reference_logps`` (N,) float32 in nats, where they were computed beforehand.
    """

    inputs: Batch
    target_answers: torch.Tensor
    last_tokens: torch.Tensor
    answer_lengths: torch.Tensor
    better: torch.Tensor
    worse: torch.Tensor
    pair_weights: torch.Tensor
    margins: torch.Tensor
    prompts: int
    reference_logps: torch.Tensor | None = None


@dataclass(frozen=True, slots=True)
class PretrainingRow:
    """One row of pre-training text: an example for the collator of its objective.

    ``example``: ``input_ids`` (L,), or ``first`` and ``second`` with a ``label``; ``index`` and ``epoch``,
    which choose its noise; for packed documents ``segment_lengths``. ``length``: L, special tokens included.
    ``source``: the number of the data set. ``counts``: False where nothing in it is to be learned.
    """

    example: dict[str, Any]
    length: int
    source: int = 0
    counts: bool = True

    def __len__(self) -> int:
        return self.length


@dataclass(frozen=True)
class PretrainingBatch:
    """One micro-batch of a pre-training objective with N targets in B rows.

    ``inputs``: the keyword arguments of the model's ``forward``, with the labels. ``target_ids`` and
    ``target_sources`` (N,) int64: the token to predict and the number of its data set, in row-major order of
    the labels. ``pair_labels`` (B,) int64, of a pair of segments, or None; -100 counts nothing. ``pairs``:
    how many count. ``pair_weight``: what the loss of a pair is multiplied by, so that dividing by the step's
    targets gives its mean over the step's pairs.
    """

    inputs: dict[str, Any]
    target_ids: torch.Tensor
    target_sources: torch.Tensor
    pair_labels: torch.Tensor | None = None
    pairs: int = 0
    pair_weight: float = 1.0

    @property
    def target_tokens(self) -> int:
        return len(self.target_ids)


@dataclass(frozen=True)
class LabelledBatch:
    """One micro-batch of B sequences to be classified.

    ``last_tokens`` (B,) int64: where in ``inputs`` (counted through its rows) each sequence ends. ``labels``
    (B,) int64, -100 where a row counts in no loss. ``numbers`` (B,) int64: each row's place in its set.
    ``segment_ids`` as ``inputs.input_ids``, for models that read them.
    """

    inputs: Batch
    last_tokens: torch.Tensor
    labels: torch.Tensor
    numbers: torch.Tensor
    segment_ids: torch.Tensor | None = None


@dataclass(frozen=True)
class LossOutput:
    """What an objective returns for one micro-batch.

    ``loss_sum``: scalar, the loss in nats summed over ``count`` units (target tokens for language
    modelling, prompts for comparisons); the training loop divides by the units of the whole optimizer
    step. ``metrics``: sums over the same units, for logging; detached scalars. ``details``: detached values
    for each example, kept while evaluating, where a figure needs all of them.
    """

    loss_sum: torch.Tensor
    count: int
    metrics: dict[str, torch.Tensor] = field(default_factory=dict)
    details: dict[str, torch.Tensor] = field(default_factory=dict)


class PairLogps(NamedTuple):
    """Log-probabilities of B answer pairs: token sums in nats, and token counts; each (B,)."""

    chosen: torch.Tensor
    rejected: torch.Tensor
    chosen_length: torch.Tensor
    rejected_length: torch.Tensor
