"""Micro-batches: what an objective is given.

Letters: S segments (sequences of a packed row), T tokens of a micro-batch row, B rows of a batch,
N target tokens of a micro-batch, A answers and Q pairs of answers of a micro-batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Segments:
    """Boundaries of the S sequences that are concatenated in one packed row of T tokens.

    ``starts`` and ``lengths`` (S,) are Python integers, so that no kernel launch waits for a device;
    ``cu_seqlens`` (S+1,) int32 holds the cumulative lengths on the model's device, starting with 0.

    ``parents`` (S,), empty where no segment has one: the segment whose tokens come before this one's, or -1.
    A parent stands before its children and has none itself. A child attends to all of its parent and to
    itself. Where there are parents, ``key_index`` (T_k,) int64 lists the positions of the keys of every
    segment in turn (its parent's, then its own), and ``cu_seqlens_k`` (S+1,) int32 where each list starts.

    ``filler``: positions behind the last segment that belong to none. Nothing attends to them, and what comes
    out of attention there is zero. T is the sum of the lengths and the filler.
    """

    starts: tuple[int, ...]
    lengths: tuple[int, ...]
    cu_seqlens: torch.Tensor
    parents: tuple[int, ...] = ()
    key_index: torch.Tensor | None = None
    cu_seqlens_k: torch.Tensor | None = None
    filler: int = 0

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
    ``target_tokens``: how many labels count. ``tokens``: how many positions are real tokens. ``weights``
    (N,) float32, in row-major order of the labels: what each target counts; None where all count 1.
    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    shift_labels: torch.Tensor
    target_tokens: int
    tokens: int
    segments: Segments | None = None
    attention_mask: torch.Tensor | None = None
    weights: torch.Tensor | None = None

    @property
    def inputs(self) -> Batch:
        """Itself: what a model reads, as in batches that hold more than that."""
        return self


@dataclass(frozen=True)
class ComparisonBatch:
    """One micro-batch of compared answers: A answers to G prompts.

    ``inputs``: packed with each prompt's prefix as the parent of its answers, or padded with one answer a
    row. ``target_answers`` (N,) int64: the answer that each target of ``inputs`` belongs to, in row-major
    order. ``last_tokens`` (A,) int64: where in ``inputs`` (counted through its rows) the last token of each
    answer stands. ``answer_lengths`` (A,) int64: target tokens of each answer.

    ``chosen`` and ``rejected`` (Q,) int64: the answers of each pair. ``pair_weights`` (Q,) float32: one over
    the pairs of the same prompt, so that every prompt counts once. ``margins`` (Q,) float32, 0 where the data
    give none. ``reference_logps`` (N,) float32 in nats, where they were computed beforehand. ``among``: as in
    ``losses.aot_loss``, where a loss asks for all pairs of the step.
    """

    inputs: Batch
    target_answers: torch.Tensor
    last_tokens: torch.Tensor
    answer_lengths: torch.Tensor
    chosen: torch.Tensor
    rejected: torch.Tensor
    pair_weights: torch.Tensor
    margins: torch.Tensor
    prompts: int
    reference_logps: torch.Tensor | None = None
    among: torch.Tensor | None = None


@dataclass(frozen=True)
class UnpairedBatch:
    """One micro-batch of B single answers with their labels.

    ``answers``: without pairs; its A is B. ``desirable`` (B,) bool. ``mismatched``: prompts with the answers
    of other rows, where the loss asks for them; an answer without targets counts nowhere. ``kl``: the
    estimate for the whole step, a scalar in nats, once that is known.
    """

    answers: ComparisonBatch
    desirable: torch.Tensor
    mismatched: ComparisonBatch | None = None
    kl: torch.Tensor | None = None

    @property
    def inputs(self) -> Batch:
        return self.answers.inputs


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
