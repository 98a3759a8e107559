"""Tokenised rows: what data preparation hands to training.

Letters: L tokens of a sequence, K answers of a prompt. A *target* is a token that the model is trained to
predict.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol, Self, TypeVar

import numpy as np
import numpy.typing as npt

IGNORE_INDEX = -100
"""The label of a position whose next token does not count in the loss (PyTorch's convention)."""

T = TypeVar("T", covariant=True)
Ids = npt.NDArray[np.int32]
Layout = tuple[Sequence[int], Sequence[float]]
"""What a row is besides its tokens, for storage: as many integers as floats; none for a plain sequence."""


class Row(Protocol):
    """What every kind of row can do that is made of one sequence or of several that share a prefix."""

    @property
    def source(self) -> str:
        """Where the row stands in its data set."""

    def __len__(self) -> int:
        """Tokens that are computed."""

    @property
    def target_tokens(self) -> int:
        """How many tokens are targets."""

    @property
    def lengths(self) -> tuple[int, ...]:
        """Tokens of each whole sequence."""

    def pieces(self) -> tuple[Ids, tuple[TokenizedRow, ...]]:
        """(the prefix that all sequences share, possibly empty; what each of them has behind it)."""

    def cut(self, length: int) -> Self:
        """A copy with at most ``length`` tokens in each sequence; the ends go, the prefix last."""

    def untrainable(self, cut_to: int | None = None) -> str:
        """Why nothing can be learned from the row, or an empty string. ``cut_to``: how long it was made."""

    def layout(self) -> Layout:
        """All that the tokens of the pieces, their targets and the source leave out."""

    @classmethod
    def from_layout(cls, ids: Ids, mask: npt.NDArray[np.bool_], source: str, layout: Layout) -> Self:
        """The row again: ``ids`` and target ``mask`` of the prefix and of all pieces behind it, joined."""


class LazySequence(Sequence[T], ABC):
    """A sequence whose items are made each time they are asked for; a slice is a list."""

    @abstractmethod
    def item(self, index: int) -> T:
        """Item ``index``, counted from 0."""

    def __getitem__(self, index: Any) -> Any:
        numbers = range(len(self))[index]
        return [self.item(i) for i in numbers] if isinstance(numbers, range) else self.item(numbers)


@dataclass(frozen=True, slots=True)
class TokenizedRow:
    """One tokenised sequence of L tokens.

    ``input_ids`` (L,) int32. ``target_mask`` (L,) bool: True where the token itself is a target, so
    where the position before it is trained to predict it. ``target_mask[0]`` is always False: nothing
    comes before the first token. ``weight``: what the loss of each target is multiplied by, and what it
    counts where a mean is taken.
    """

    input_ids: Ids
    target_mask: npt.NDArray[np.bool_]
    source: str = ""
    weight: float = 1.0

    def __len__(self) -> int:
        return len(self.input_ids)

    @property
    def target_tokens(self) -> int:
        return int(self.target_mask.sum())

    @property
    def weighted_targets(self) -> float:
        """The targets, each counted by its weight; a whole number where that is 1."""
        return self.target_tokens if self.weight == 1 else self.weight * self.target_tokens

    @property
    def lengths(self) -> tuple[int, ...]:
        return (len(self.input_ids),)

    def pieces(self) -> tuple[Ids, tuple[TokenizedRow, ...]]:
        return self.input_ids[:0], (self,)

    def cut(self, length: int) -> Self:
        every = ((field.name, getattr(self, field.name)) for field in fields(self))
        # Copies, so that the long arrays are freed.
        cut: Any = {name: one[:length].copy() for name, one in every if isinstance(one, np.ndarray)}
        return replace(self, **cut)

    def untrainable(self, cut_to: int | None = None) -> str:
        if self.target_mask.any():
            return ""
        return "no token is a target" if cut_to is None else f"its targets begin after token {cut_to}"

    def layout(self) -> Layout:
        """Nothing, or a 0 with the weight."""
        return ((), ()) if self.weight == 1 else ((0,), (self.weight,))

    @classmethod
    def from_layout(cls, ids: Ids, mask: npt.NDArray[np.bool_], source: str, layout: Layout) -> Self:
        _, weight = layout
        return cls(ids, mask, source, *weight)


@dataclass(frozen=True, slots=True)
class ComparisonRow:
    """One prompt with K answers, tokenised as a tree: what all answers share, then a branch for each.

    ``prefix`` (P,) int32, possibly empty. ``branches``: the rest of each sequence. A branch begins with the
    last token before the answer (the position that predicts the answer's first token), so its first token is
    never a target; ``prefix`` followed by ``branches[k].input_ids`` is the whole k-th sequence.
    ``scores`` (K,) float64 and ``margin`` as in :class:`Comparison`; a row of one answer has the score 1
    where that is desirable, and 0 where it is not. ``reference_logps``: for each branch the log-probabilities
    of its targets under the reference model, (targets,) float32 in nats, or None.
    """

    prefix: Ids
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

    @property
    def lengths(self) -> tuple[int, ...]:
        return tuple(len(self.prefix) + len(branch) for branch in self.branches)

    def pieces(self) -> tuple[Ids, tuple[TokenizedRow, ...]]:
        return self.prefix, self.branches

    def cut(self, length: int) -> Self:
        rest = max(0, length - len(self.prefix))
        branches = tuple(branch.cut(rest) for branch in self.branches)
        return replace(self, prefix=self.prefix[:length].copy(), branches=branches)

    def untrainable(self, cut_to: int | None = None) -> str:
        """Every sequence needs a target, and two that do not tie have to differ, also when they were cut."""
        number = next((k for k, branch in enumerate(self.branches, 1) if not branch.target_tokens), None)
        if number is None and not self.same_answers():
            return ""
        reason = "answers that do not tie are the same"
        if number is not None:
            reason = f"no token of answer {number} is a target"
        return reason if cut_to is None else f"{reason} up to token {cut_to}"

    def layout(self) -> Layout:
        """Tokens of the prefix and of each branch; the margin (NaN where there is none) and the scores."""
        margin = np.nan if self.margin is None else self.margin
        return [len(self.prefix), *map(len, self.branches)], [margin, *self.scores]

    @classmethod
    def from_layout(cls, ids: Ids, mask: npt.NDArray[np.bool_], source: str, layout: Layout) -> Self:
        lengths, (margin, *scores) = layout
        cuts = np.cumsum(lengths[:-1])
        prefix, *branches = np.split(ids, cuts)
        masks = np.split(mask, cuts)[1:]
        return cls(
            prefix,
            tuple(TokenizedRow(*branch, source) for branch in zip(branches, masks, strict=True)),
            np.array(scores, np.float64),
            None if np.isnan(margin) else margin,
            source,
        )

    def sequence(self, k: int) -> TokenizedRow:
        """The whole k-th sequence: prefix and branch."""
        branch = self.branches[k]
        return TokenizedRow(
            np.concatenate([self.prefix, branch.input_ids]),
            np.concatenate([np.zeros(len(self.prefix), dtype=bool), branch.target_mask]),
            self.source,
        )

    def pairs(self) -> list[tuple[int, int]]:
        """(chosen, rejected) for every two answers that do not tie."""
        order = range(len(self.branches))
        return [(i, j) for i in order for j in order if self.scores[i] > self.scores[j]]

    def same_answers(self) -> bool:
        """Whether two answers of which one is better have the same tokens."""
        score_of: dict[bytes, float] = {}
        for branch, score in zip(self.branches, self.scores.tolist(), strict=True):
            if score_of.setdefault(branch.input_ids.tobytes(), score) != score:
                return True
        return False


@dataclass(frozen=True, slots=True)
class LabelledRow(TokenizedRow):
    """A sequence to be classified; none of its tokens is a target.

    ``label``: the number of its class, or -100 where the row counts in no loss. ``segment_ids`` (L,) int32:
    which of two texts a token is of, where the tokenizer says so. ``number``: its place among the rows of
    its kind.
    """

    label: int = IGNORE_INDEX
    segment_ids: Ids | None = None
    number: int = -1

    def untrainable(self, cut_to: int | None = None) -> str:
        return ""

    def layout(self) -> Layout:
        """The segments in a line: how many tokens each has, then its number; the label is found elsewhere."""
        if self.segment_ids is None:
            return (), ()
        starts = np.flatnonzero(np.diff(self.segment_ids, prepend=-1))
        lengths = np.diff(starts, append=len(self))
        numbers = np.stack((lengths, self.segment_ids[starts]), axis=1).ravel().tolist()
        return numbers, [0.0] * len(numbers)

    @classmethod
    def from_layout(cls, ids: Ids, mask: npt.NDArray[np.bool_], source: str, layout: Layout) -> Self:
        numbers = np.array(layout[0], np.int32)
        segments = np.repeat(numbers[1::2], numbers[::2]) if len(numbers) else None
        return cls(ids, mask, source, segment_ids=segments)


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

    @property
    def lengths(self) -> tuple[int, ...]:
        return (self.length,)
