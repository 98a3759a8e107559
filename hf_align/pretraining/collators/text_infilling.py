"""BART's denoising: the inputs are a damaged text, the targets the whole text.

Lewis et al. 2020, section 2.2. Text infilling replaces spans of words by one ``<mask>`` each; lengths are
Poisson with mean 3, and a span of length 0 inserts a mask. Together the spans cover 30 % of the words,
rounded up, the last one cut to fit; all placements of spans that do not overlap are equally likely. (The
authors' code lets spans overlap, so that it hides less than it says.) Sentence permutation shuffles the
sentences. These two are BART's own mixture and the default. Token masking, token deletion and document
rotation are the paper's other noises.

The order is theirs: permutation, then what is done to tokens, then rotation. Special tokens keep their
places: a text between two of them stays there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hf_align.errors import UserError
from hf_align.pretraining.collators.base import Arrays, Collator, check_above, check_probability
from hf_align.pretraining.collators.draws import NEVER, Draws, Integers, below, chance
from hf_align.pretraining.collators.infilling import infill, poisson_quantiles
from hf_align.pretraining.collators.rows import Rows, count_by_row, starts_of

Flags = npt.NDArray[np.bool_]
_SENTENCES, _ROTATE, _SHIFT, _MASK, _DELETE = range(40, 45)


def permute_sentences(
    ids: Integers, lengths: Integers, special: Flags, ends_sentence: Flags, draws: Draws, row_of: Integers
) -> Integers:
    """Flat ``ids`` with the sentences of each text in random order; lengths stay.

    ``ends_sentence`` (N,): the last token of a sentence. A text is what stands between special tokens.
    Several closing tokens in a row end one sentence.
    """
    number = len(ids)
    row_begins = np.zeros(number, dtype=bool)
    row_begins[starts_of(lengths)[lengths > 0]] = True
    new_text = special | row_begins
    new_text[1:] |= special[:-1]
    closes = ends_sentence.copy()
    closes[:-1] &= ~ends_sentence[1:]
    sentence_begins = new_text.copy()
    sentence_begins[1:] |= closes[:-1]
    starts = np.flatnonzero(sentence_begins)
    text_of = np.cumsum(new_text)[starts]
    rows = row_of[starts]
    bits = draws.bits_at(_SENTENCES, rows, starts - starts_of(lengths)[rows])
    order = np.lexsort((bits, text_of))
    sizes = np.diff(starts, append=number)[order]
    return ids[np.repeat(starts[order] - starts_of(sizes), sizes) + np.arange(number)]


def rotate(ids: Integers, lengths: Integers, special: Flags, draws: Draws, probability: float) -> Integers:
    """Flat ``ids``, with ``probability`` each row turned to begin at a random token; lengths stay.

    Special tokens at both ends of a row stay where they are.
    """
    row_starts = starts_of(lengths)
    lead, trail = _special_ends(special, lengths)
    size = np.maximum(lengths - lead - trail, 1)
    turned = chance(draws.bits(_ROTATE, 1)[:, 0], probability)
    shift = np.where(turned, below(draws.bits(_SHIFT, 1)[:, 0], size), 0)
    place = np.arange(len(ids)) - np.repeat(row_starts + lead, lengths)
    inside = (place >= 0) & (place < np.repeat(lengths - lead - trail, lengths))
    moved = (place + np.repeat(shift, lengths)) % np.repeat(size, lengths)
    return ids[np.where(inside, moved + np.repeat(row_starts + lead, lengths), np.arange(len(ids)))]


def _special_ends(special: Flags, lengths: Integers) -> tuple[Integers, Integers]:
    """((B,) special tokens at the start, (B,) at the end) of each row; all at the start where all are
    special.
    """
    starts, ends = starts_of(lengths), np.cumsum(lengths)
    text = np.flatnonzero(~special)
    some = count_by_row(~special, lengths) > 0
    text = np.append(text, len(special))
    first = text[np.searchsorted(text, starts)]
    last = text[np.maximum(np.searchsorted(text, ends) - 1, 0)]
    lead = np.where(some, first - starts, lengths)
    return lead, np.where(some, ends - 1 - last, 0)


def choose_tokens(special: Flags, lengths: Integers, ratio: float, draws: Draws, purpose: int) -> Flags:
    """(N,) a random share of the text tokens of each row, rounded to the nearest count (halves to even)."""
    wanted = np.rint(count_by_row(~special, lengths) * ratio).astype(np.int64)
    width = max(1, int(lengths.max()))
    keys = draws.sort_keys(purpose, width)
    candidates = np.zeros(keys.shape, dtype=bool)
    candidates[np.arange(width) < lengths[:, None]] = ~special
    keys[~candidates] = NEVER
    last = np.take_along_axis(np.sort(keys, axis=1), np.maximum(wanted - 1, 0)[:, None], axis=1)
    chosen = (keys <= last) & candidates & (wanted > 0)[:, None]
    return chosen[np.arange(width) < lengths[:, None]]


@dataclass(frozen=True, eq=False, kw_only=True)
class TextInfillingCollator(Collator):
    """``input_ids`` and ``attention_mask`` (B, T_in), ``labels`` (B, T_out) for an encoder-decoder model.

    Examples: sequences with their special tokens; labels are the whole sequence. ``mask_ratio``: the share of
    words that text infilling hides, 0 for none. ``poisson_lambda``: the mean of the span lengths.
    ``permute_sentences``: whether sentences are shuffled. ``token_masking`` and ``token_deletion``: shares of
    the tokens. ``rotation``: the probability that a document is rotated. ``whole_words=False`` makes a
    token the unit of infilling.
    """

    mask_ratio: float = 0.3
    poisson_lambda: float = 3.0
    permute_sentences: bool = True
    token_masking: float = 0.0
    token_deletion: float = 0.0
    rotation: float = 0.0
    whole_words: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        shares = {
            "mask_ratio": self.mask_ratio,
            "token_masking": self.token_masking,
            "token_deletion": self.token_deletion,
            "rotation": self.rotation,
        }
        check_probability(**shares)
        check_above("poisson_lambda", self.poisson_lambda, 0)
        if not any(shares.values()) and not self.permute_sentences:
            raise UserError("every noise is off, so that the inputs are the targets; switch one on")
        _ = self.vocabulary.mask_id, self.vocabulary.pad_id
        if self.whole_words and self.mask_ratio:
            self.vocabulary.word_starts(np.zeros(1, dtype=np.int64))

    def collate(self, rows: Rows) -> Arrays:
        ids, lengths = self.damage(rows)
        return {**self.padded_inputs(ids, lengths), "labels": self.padded_labels(rows.ids, rows.lengths)}

    def damage(self, rows: Rows) -> tuple[Integers, Integers]:
        """(ids, lengths) of the damaged rows, flat."""
        tables, draws = self.vocabulary, rows.draws
        ids, lengths = rows.ids, rows.lengths
        if self.permute_sentences:
            ends = tables.ends_sentence[ids]
            ids = permute_sentences(ids, lengths, tables.special[ids], ends, draws, rows.row_of)
        if self.mask_ratio:
            special = tables.special[ids]
            starts = tables.word_starts(ids) if self.whole_words else ~special
            ids, lengths = infill(
                ids,
                lengths,
                special,
                starts,
                draws,
                mask_id=tables.mask_id,
                ratio=self.mask_ratio,
                cumulative=poisson_quantiles(self.poisson_lambda),
            )
        if self.token_masking:
            chosen = choose_tokens(tables.special[ids], lengths, self.token_masking, draws, _MASK)
            ids = np.where(chosen, tables.mask_id, ids)
        if self.token_deletion:
            kept = ~choose_tokens(tables.special[ids], lengths, self.token_deletion, draws, _DELETE)
            ids, lengths = ids[kept], count_by_row(kept, lengths)
        if self.rotation:
            ids = rotate(ids, lengths, self._fixed(ids), draws, self.rotation)
        return ids, lengths

    def _fixed(self, ids: Integers) -> Flags:
        """Special tokens but the mask, which stands for text once it is in the inputs."""
        return self.vocabulary.special[ids] & (ids != self.vocabulary.mask_id)
