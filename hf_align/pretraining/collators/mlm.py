"""Masked language modelling, as in BERT and RoBERTa: hide some tokens, predict them from both sides.

BERT (Devlin et al. 2019, section 3.1; ``create_pretraining_data.py``) chooses a fixed number of positions, n
= min(max_predictions, max(1, round(0.15 x length))) with the length counting special tokens, and never a
special token. Of the chosen ones 80 % become ``[MASK]``, 10 % a random token of the whole vocabulary, 10 %
stay. ``selection="bernoulli"`` chooses each position with that probability instead, as PyTorch users know it.
Either way the choice is made anew in every epoch (RoBERTa, Liu et al. 2019, section 4.1).

With whole words the unit of choice is the word. The fixed number then counts tokens still: words are taken in
random order, and one that would exceed the number is passed over, as BERT's own script does; so it can fall
short of n where only longer words are left.

Pairs of segments are made by ``nsp``, spans of words by ``span_mlm``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from hf_align.errors import UserError
from hf_align.pretraining.collators.base import Arrays, Collator, check_at_least, check_probability
from hf_align.pretraining.collators.draws import NEVER, Bits, Draws, Integers, below, chance, positions_of
from hf_align.pretraining.collators.rows import Rows, real_tokens
from hf_align.types import IGNORE_INDEX

Flags = npt.NDArray[np.bool_]
Selection = Literal["fixed", "bernoulli"]
_SELECT, _REPLACE, _RANDOM_TOKEN = 0, 1, 2


def prediction_counts(lengths: Integers, probability: float, max_predictions: int | None = None) -> Integers:
    """(B,) how many positions BERT hides in rows of these lengths, special tokens counted."""
    counts = np.maximum(1, np.rint(lengths * probability)).astype(np.int64)
    return counts if max_predictions is None else np.minimum(counts, max_predictions)


def words_begin(candidates: Flags, word_starts: Flags) -> Flags:
    """(B, T) where a word of candidates begins: at a word start, and after anything that is no candidate."""
    begins = word_starts | ~candidates
    begins[:, 1:] = word_starts[:, 1:] | ~candidates[:, :-1]
    begins[:, 0] = True
    begins &= candidates
    return begins


def select_fixed(candidates: Flags, counts: Integers, keys: Bits) -> Flags:
    """(B, T) exactly min(counts, candidates) positions of each row, every set of them equally likely.

    ``keys`` (B, T): from :meth:`Draws.sort_keys`.
    """
    counts = np.minimum(counts, candidates.sum(axis=1))
    keys = np.where(candidates, keys, NEVER)
    ranked = np.sort(keys, axis=1)
    last = np.take_along_axis(ranked, np.maximum(counts - 1, 0)[:, None], axis=1)
    return (keys <= last) & candidates & (counts > 0)[:, None]


def select_words_fixed(candidates: Flags, begins: Flags, counts: Integers, keys: Bits) -> Flags:
    """(B, T) whole words of ``candidates`` in random order, passing over those that would exceed ``counts``.

    ``begins`` (B, T): from :func:`words_begin`. ``keys`` (B, T): from :meth:`Draws.sort_keys`.
    """
    rows, width = candidates.shape
    ranked = np.sort(np.where(begins, keys, NEVER), axis=1)[:, : max(1, int(begins.sum(axis=1).max()))]
    exists = ranked != NEVER
    # A missing word is put at the row's first place with length 0, which takes nothing.
    places = np.where(exists, positions_of(ranked), 0) + (np.arange(rows) * width)[:, None]
    lengths = np.where(exists, _word_lengths(candidates, begins)[places], 0)
    taken = (np.cumsum(lengths, axis=1) <= counts[:, None]) & exists
    _fill_up(taken, lengths, counts)
    chosen = np.zeros(rows * width, dtype=bool)
    chosen[places[taken]] = True
    return _spread_over_words(chosen, begins) & candidates


def select_bernoulli(candidates: Flags, bits: Bits, probability: float) -> Flags:
    """(B, T) each candidate with ``probability``."""
    return chance(bits, probability) & candidates


def select_words_bernoulli(candidates: Flags, begins: Flags, bits: Bits, probability: float) -> Flags:
    """(B, T) each word of candidates with ``probability``."""
    return _spread_over_words((chance(bits, probability) & begins).ravel(), begins) & candidates


def _word_lengths(candidates: Flags, begins: Flags) -> Integers:
    """(B x T,) at the first token of a word how many tokens it has, elsewhere 0."""
    lengths = np.zeros(candidates.size, dtype=np.int64)
    of_candidates = np.flatnonzero(begins.ravel()[candidates.ravel()])
    lengths[np.flatnonzero(begins)] = np.diff(of_candidates, append=np.count_nonzero(candidates))
    return lengths


def _fill_up(taken: Flags, lengths: Integers, counts: Integers) -> None:
    """Go on behind the first word that did not fit and take, in order, each one that still does; in place."""
    room = counts - (lengths * taken).sum(axis=1)
    after = taken.sum(axis=1)
    columns = np.arange(lengths.shape[1])
    open_rows = np.flatnonzero(room > 0)
    while len(open_rows):
        part = lengths[open_rows]
        fits = (part > 0) & (part <= room[open_rows, None]) & (columns >= after[open_rows, None])
        first = fits.argmax(axis=1)
        found = fits[np.arange(len(open_rows)), first]
        open_rows, first = open_rows[found], first[found]
        taken[open_rows, first] = True
        room[open_rows] -= lengths[open_rows, first]
        after[open_rows] = first + 1
        open_rows = open_rows[room[open_rows] > 0]


def _spread_over_words(chosen: Flags, begins: Flags) -> Flags:
    """(B, T) the flag of each word's first token, ``chosen`` (B x T,), for all its tokens."""
    places = np.arange(begins.size) * begins.ravel()
    return chosen[np.maximum.accumulate(places)].reshape(begins.shape)


def replace_selected(
    ids: Integers,
    selected: Integers,
    *,
    kinds: Bits,
    tokens: Bits,
    mask_id: int,
    vocabulary_size: int,
    mask_probability: float = 0.8,
    random_probability: float = 0.1,
) -> None:
    """Replace the ``selected`` places of flat ``ids`` (N,) in place: a mask, a random token, or nothing.

    ``selected`` (M,): places. ``kinds`` (M,): bits that decide between the three, equal where several places
    are to share their fate. ``tokens`` (M,): bits that choose the random token.
    """
    masked = chance(kinds, mask_probability)
    changed = chance(kinds, min(1.0, mask_probability + random_probability))
    ids[selected[changed]] = below(tokens[changed], vocabulary_size)
    ids[selected[masked]] = mask_id


@dataclass(frozen=True, eq=False, kw_only=True)
class MaskedLMCollator(Collator):
    """``input_ids``, ``attention_mask`` and ``labels`` (B, T) of masked language modelling.

    Examples: sequences with their special tokens. ``labels`` hold the original id at the chosen positions
    and -100 elsewhere. ``max_predictions``: the upper limit of a fixed selection (BERT: 20 for 128 tokens, 77
    for 512). ``mask_probability`` and ``random_probability``: the 80 % and 10 %; the rest stays.
    """

    mlm_probability: float = 0.15
    whole_words: bool = False
    selection: Selection = "fixed"
    max_predictions: int | None = None
    mask_probability: float = 0.8
    random_probability: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_masking(self.mlm_probability, self.mask_probability, self.random_probability)
        if self.selection not in get_args(Selection):
            raise UserError(f"selection: found {self.selection!r}, expected 'fixed' or 'bernoulli'")
        if self.max_predictions is not None:
            check_at_least("max_predictions", self.max_predictions, 1)
            if self.selection != "fixed":
                raise UserError(
                    "max_predictions limits a fixed selection; set selection: fixed or leave it out"
                )
        _ = self.vocabulary.mask_id, self.vocabulary.pad_id
        if self.whole_words:
            self.vocabulary.word_starts(np.zeros(1, dtype=np.int64))

    def collate(self, rows: Rows) -> Arrays:
        batch = self.padded_inputs(rows.ids, rows.lengths)
        ids = batch["input_ids"]
        candidates = ~self.vocabulary.special[ids]
        candidates &= real_tokens(rows.lengths, ids.shape[1])
        selected = np.flatnonzero(self._select(ids, candidates, rows.lengths, rows.draws))
        batch["labels"] = hide(ids, selected, rows.draws, self)
        return batch

    def _select(self, ids: Integers, candidates: Flags, lengths: Integers, draws: Draws) -> Flags:
        width = ids.shape[1]
        begins = words_begin(candidates, self.vocabulary.word_starts(ids)) if self.whole_words else None
        if self.selection == "bernoulli":
            bits = draws.bits(_SELECT, width)
            if begins is None:
                return select_bernoulli(candidates, bits, self.mlm_probability)
            return select_words_bernoulli(candidates, begins, bits, self.mlm_probability)
        counts = prediction_counts(lengths, self.mlm_probability, self.max_predictions)
        keys = draws.sort_keys(_SELECT, width)
        if begins is None:
            return select_fixed(candidates, counts, keys)
        return select_words_fixed(candidates, begins, counts, keys)


def hide(
    ids: Integers, selected: Integers, draws: Draws, options: MaskedLMCollator, shared: Integers | None = None
) -> Integers:
    """Replace the ``selected`` (M,) places of ``ids`` (B, T) in place; returns the labels (B, T).

    ``shared`` (M,): for each place the column whose draw decides between mask, random token and nothing;
    by default its own.
    """
    rows, columns = np.divmod(selected, ids.shape[1])
    flat = ids.reshape(-1)
    labels = np.full(ids.size, IGNORE_INDEX, dtype=np.int64)
    labels[selected] = flat[selected]
    replace_selected(
        flat,
        selected,
        kinds=draws.bits_at(_REPLACE, rows, columns if shared is None else shared),
        tokens=draws.bits_at(_RANDOM_TOKEN, rows, columns),
        mask_id=options.vocabulary.mask_id,
        vocabulary_size=options.vocabulary.size,
        mask_probability=options.mask_probability,
        random_probability=options.random_probability,
    )
    return labels.reshape(ids.shape)


def check_masking(mlm_probability: float, mask_probability: float, random_probability: float) -> None:
    """Raise UserError for probabilities out of range, or two that add up to more than 1."""
    check_probability(
        mlm_probability=mlm_probability,
        mask_probability=mask_probability,
        random_probability=random_probability,
    )
    if mask_probability + random_probability > 1 + 1e-9:
        raise UserError(
            f"mask_probability {mask_probability} and random_probability {random_probability} add up to more "
            "than 1; the rest of the chosen tokens stays as it is"
        )
