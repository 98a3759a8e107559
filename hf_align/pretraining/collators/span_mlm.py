"""SpanBERT's masking: contiguous spans of whole words, and what its span-boundary objective needs.

Joshi et al. 2020, section 3.1: lengths in words are geometric with p = 0.2, cut off at 10 and renormalised
(mean 3.8); a span begins at the word of a random token that is not yet hidden; spans are added until 15 % of
the tokens are hidden, rounded up, and the last one stops in time. 80/10/10 is decided for a whole span.
Special tokens, and the first and last token of a row, are never hidden, so that each span has a token on both
sides. Spans that come to touch count as one, so that those two tokens are never hidden themselves.

The head that predicts tokens from the boundaries is ``hf_align.pretraining.objectives.boundary_head``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hf_align.errors import UserError
from hf_align.pretraining.collators.base import Arrays, check_at_least, check_probability
from hf_align.pretraining.collators.draws import Draws, Integers, below, unit_interval
from hf_align.pretraining.collators.mlm import Flags, MaskedLMCollator, hide, words_begin
from hf_align.pretraining.collators.rows import Rows, real_tokens

_ANCHOR, _LENGTH = 10, 11


def span_length_distribution(p: float = 0.2, longest: int = 10) -> npt.NDArray[np.float64]:
    """(longest,) probability of 1, 2, … words: geometric, cut off and renormalised."""
    weights = p * (1 - p) ** np.arange(longest)
    return weights / weights.sum()


def span_budget(candidates: Integers, probability: float) -> Integers:
    """(B,) tokens to hide of ``candidates`` (B,): the share, rounded up."""
    # 0.15 x 20 is a hair above 3 in binary fractions; that hair must not cost a token.
    return np.ceil(candidates * probability - 1e-9).astype(np.int64)


def select_spans(
    candidates: Flags,
    begins: Flags,
    budget: Integers,
    draws: Draws,
    length_distribution: npt.NDArray[np.float64],
) -> Flags:
    """(B, T) spans of words among ``candidates`` with exactly ``budget`` (B,) tokens in each row.

    ``begins`` (B, T): where words begin, from ``words_begin``. The budget must not exceed the candidates.
    """
    selected = np.zeros_like(candidates)
    word_first, span_end = _span_tables(candidates, begins)
    cumulative = np.cumsum(length_distribution)
    open_rows = np.flatnonzero(budget > 0)
    room = budget.copy()
    columns = np.arange(candidates.shape[1])
    attempts = 0
    while len(open_rows):
        draw = Draws(draws.keys[open_rows])
        free = candidates[open_rows] & ~selected[open_rows]
        rank = np.cumsum(free, axis=1)
        wanted = below(draw.bits_at(_ANCHOR, *_nth(len(open_rows), attempts)), rank[:, -1])
        anchor = (rank > wanted[:, None]).argmax(axis=1)
        drawn = unit_interval(draw.bits_at(_LENGTH, *_nth(len(open_rows), attempts)))
        words = np.searchsorted(cumulative[:-1], drawn, side="right") + 1
        first = word_first[open_rows, anchor]
        end = span_end(open_rows, anchor, words)
        new = free & (columns >= first[:, None]) & (columns < end[:, None])
        new &= np.cumsum(new, axis=1) <= room[open_rows, None]
        selected[open_rows] |= new
        room[open_rows] -= new.sum(axis=1)
        open_rows = open_rows[room[open_rows] > 0]
        attempts += 1
    return selected


def _nth(rows: int, attempt: int) -> tuple[Integers, Integers]:
    return np.arange(rows), np.full(rows, attempt)


def _span_tables(
    candidates: Flags, begins: Flags
) -> tuple[Integers, Callable[[Integers, Integers, Integers], Integers]]:
    """((B, T) column of the first token of each token's word, a function that says where spans end).

    The function maps rows, anchors and numbers of words (each (R,)) to the column behind the last of those
    words, or behind the run of candidates that the anchor stands in, where that ends before.
    """
    rows, width = candidates.shape
    flat = np.arange(rows * width)
    first = np.maximum.accumulate(flat * begins.ravel()).reshape(rows, width) % width
    word = np.cumsum(begins.ravel()) - 1
    word_begins = np.append(np.flatnonzero(begins), rows * width)
    gaps = np.append(np.flatnonzero(~candidates), rows * width)

    def span_end(of_rows: Integers, anchors: Integers, words: Integers) -> Integers:
        places = of_rows * width + anchors
        next_word = word_begins[np.minimum(word[places] + words, len(word_begins) - 1)]
        gap = gaps[np.searchsorted(gaps, places)]
        return np.minimum(np.minimum(next_word, gap) - of_rows * width, width)

    return first, span_end


def runs(selected: Flags) -> tuple[Integers, Integers]:
    """((B, T) first column, (B, T) column behind the last) of the run of selected tokens around each; else 0.

    The first column of ``selected`` (B, T) must be False throughout.
    """
    flags = selected.ravel()
    edges = np.flatnonzero(flags[1:] != flags[:-1]) + 1
    if len(edges) % 2:
        edges = np.append(edges, len(flags))
    first, end = np.zeros(len(flags), dtype=np.int64), np.zeros(len(flags), dtype=np.int64)
    width = selected.shape[1]
    lengths = edges[1::2] - edges[0::2]
    first[flags] = np.repeat(edges[0::2] % width, lengths)
    end[flags] = np.repeat(edges[0::2] % width + lengths, lengths)
    return first.reshape(selected.shape), end.reshape(selected.shape)


@dataclass(frozen=True, eq=False, kw_only=True)
class SpanMaskingCollator(MaskedLMCollator):
    """``input_ids``, ``attention_mask``, ``labels`` (B, T), and for the span-boundary objective three more.

    ``left_boundary`` and ``right_boundary`` (B, T): the columns of the tokens around the span of each hidden
    token; ``span_position`` (B, T): its place in the span, from 0. They are 0 where ``labels`` is -100, and
    are left out with ``boundaries=False``. ``whole_words=False`` makes a token the unit instead of a word.
    """

    whole_words: bool = True
    span_length_p: float = 0.2
    max_span_length: int = 10
    boundaries: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_probability(span_length_p=self.span_length_p)
        check_at_least("max_span_length", self.max_span_length, 1)
        if self.selection != "fixed" or self.max_predictions is not None:
            raise UserError(
                "span masking always hides a fixed share; leave out selection and max_predictions"
            )
        if self.span_length_p == 0:
            raise UserError("span_length_p: found 0, expected a number above 0 and at most 1")

    def collate(self, rows: Rows) -> Arrays:
        batch = self.padded_inputs(rows.ids, rows.lengths)
        ids = batch["input_ids"]
        candidates = ~self.vocabulary.special[ids] & real_tokens(rows.lengths - 1, ids.shape[1])
        candidates[:, 0] = False
        begins = words_begin(candidates, self.vocabulary.word_starts(ids)) if self.whole_words else candidates
        budget = span_budget(candidates.sum(axis=1), self.mlm_probability)
        lengths = span_length_distribution(self.span_length_p, self.max_span_length)
        selected = select_spans(candidates, begins, budget, rows.draws, lengths)
        first, end = runs(selected)
        places = np.flatnonzero(selected)
        batch["labels"] = hide(ids, places, rows.draws, self, shared=first.ravel()[places])
        if self.boundaries:
            batch["left_boundary"] = np.where(selected, first - 1, 0)
            batch["right_boundary"] = end
            batch["span_position"] = np.where(selected, np.arange(ids.shape[1]) - first, 0)
        return batch
