"""Tokenised rows: what data preparation hands to training.

Letters: L tokens of a sequence, K answers of a prompt. A *target* is a token that the model is trained to
predict.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

IGNORE_INDEX = -100
"""The label of a position whose next token does not count in the loss (PyTorch's convention)."""


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
class LabelledRow(TokenizedRow):
    """A sequence to be classified; none of its tokens is a target.

    ``label``: the number of its class, or -100 where the row counts in no loss. ``segment_ids`` (L,) int32:
    which of two texts a token is of, where the tokenizer says so. ``number``: its place among the rows of
    its kind.
    """

    label: int = IGNORE_INDEX
    segment_ids: npt.NDArray[np.int32] | None = None
    number: int = -1


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
