"""Text infilling on flat arrays: which words BART hides, and the text with a mask in place of each span.

For every row: span lengths are Poisson draws that add up to the words to hide, the last one cut to fit; then
spans and the words that stay are put in a random order, which makes all placements without overlap equally
likely (a span of length 0 stands between words). What the lengths and the share are is said in
``text_infilling``.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from hf_align.pretraining.collators.draws import NEVER, POSITION_BITS, Draws, Integers, positions_of
from hf_align.pretraining.collators.rows import count_by_row, starts_of
from hf_align.pretraining.collators.span_mlm import span_budget

Flags = npt.NDArray[np.bool_]
_LENGTHS, _PLACES = 30, 31
_BEHIND_ALL = 1 << 40


def poisson_quantiles(mean: float) -> npt.NDArray[np.float64]:
    """(K,) P(X <= k) for k = 0, 1, … until rounding makes it 1."""
    terms, total = [math.exp(-mean)], 0.0
    cumulative = []
    while total + terms[-1] > total or len(terms) <= mean:
        total += terms[-1]
        cumulative.append(total)
        terms.append(terms[-1] * mean / len(terms))
    return np.array(cumulative)


def infilling_lengths(
    budget: Integers, draws: Draws, cumulative: npt.NDArray[np.float64]
) -> tuple[Integers, Integers]:
    """((B, K) span lengths, (B,) how many of them count): Poisson, adding up to ``budget`` (B,) words.

    ``cumulative``: from :func:`poisson_quantiles`. The last length is cut to fit; behind it stand zeros.
    """
    number = 8 + int(budget.max())
    while True:
        drawn = np.searchsorted(cumulative[:-1], draws.uniforms(_LENGTHS, number), side="right")
        sums = np.cumsum(drawn, axis=1)
        if (sums[:, -1] >= budget).all():
            break
        number *= 2
    counts = np.where(budget > 0, (sums < budget[:, None]).sum(axis=1) + 1, 0)
    before = sums - drawn
    lengths = np.minimum(drawn, np.maximum(budget[:, None] - before, 0))
    kept = np.arange(number) < counts[:, None]
    widest = max(1, int(counts.max()))
    return (lengths * kept)[:, :widest], counts


def infilling_places(
    words: Integers, budget: Integers, lengths: Integers, counts: Integers, draws: Draws
) -> tuple[Integers, Integers]:
    """((B, K) first word, (B, K) words) of each span, in the order of the text; ``counts`` (B,) of each row
    count.

    Spans and kept words are put in a random order: ``words`` - ``budget`` + ``counts`` items, of which those
    at ``counts`` random places are spans. Between two lengths and two places every pairing is equally likely.
    """
    items = words - budget + counts
    keys = draws.sort_keys(_PLACES, max(1, int(items.max())))
    keys[np.arange(keys.shape[1]) >= items[:, None]] = NEVER
    widest = lengths.shape[1]
    chosen = np.sort(keys, axis=1)[:, :widest]
    used = np.arange(widest) < counts[:, None]
    # Sorted by place, each carrying its length in the low bits.
    place = np.where(used, positions_of(chosen), _BEHIND_ALL)
    pairs = np.sort((place << POSITION_BITS) | lengths, axis=1)
    place, lengths = pairs >> POSITION_BITS, pairs & ((1 << POSITION_BITS) - 1)
    earlier_words = np.cumsum(lengths, axis=1) - lengths
    return place - np.arange(widest) + earlier_words, lengths


def infill(
    ids: Integers,
    lengths: Integers,
    special: Flags,
    word_starts: Flags,
    draws: Draws,
    *,
    mask_id: int,
    ratio: float,
    cumulative: npt.NDArray[np.float64],
) -> tuple[Integers, Integers]:
    """(ids, lengths) with spans of words replaced by a mask each.

    ``ids`` (N,), ``special`` (N,) and ``word_starts`` (N,) are flat, ``lengths`` (B,). A span that reaches
    over special tokens leaves a mask on each side of them.
    """
    text = ~special
    row_starts = starts_of(lengths)
    begins = word_starts | np.concatenate(([True], special[:-1]))
    begins[row_starts[lengths > 0]] = True
    begins &= text
    if not begins.any():
        return ids, lengths
    words = count_by_row(begins, lengths)
    budget = span_budget(words, ratio)
    drawn, counts = infilling_lengths(budget, draws, cumulative)
    first, size = infilling_places(words, budget, drawn, counts, draws)
    rows, columns = np.nonzero(np.arange(first.shape[1]) < counts[:, None])
    first, size, of_row = first[rows, columns], size[rows, columns], rows

    # Over the words of all rows: which are covered, and where a span begins.
    word_offset = starts_of(words)
    total = int(words.sum())
    change = np.zeros(total + 1, dtype=np.int64)
    real = size > 0
    np.add.at(change, word_offset[of_row[real]] + first[real], 1)
    np.add.at(change, word_offset[of_row[real]] + first[real] + size[real], -1)
    opens = np.zeros(total, dtype=bool)
    opens[word_offset[of_row[real]] + first[real]] = True
    covered = np.cumsum(change[:total]) > 0

    word_of = np.cumsum(begins) - 1
    hidden = np.zeros(len(ids), dtype=bool)
    hidden[text] = covered[word_of[text]]
    after_gap = np.concatenate(([True], ~hidden[:-1]))
    after_gap[row_starts[lengths > 0]] = True
    masks_before = (hidden & (after_gap | (begins & opens[word_of]))).astype(np.int64)
    masks_after = np.zeros(len(ids), dtype=np.int64)
    _insert(masks_before, masks_after, of_row[~real], first[~real], words, word_offset, begins, text, lengths)

    sizes = masks_before + ~hidden + masks_after
    result = np.full(int(sizes.sum()), mask_id, dtype=np.int64)
    ends = np.cumsum(sizes)
    result[(ends - masks_after - 1)[~hidden]] = ids[~hidden]
    return result, np.diff(np.concatenate(([0], ends))[np.cumsum(lengths)], prepend=0)


def _insert(
    before: Integers,
    after: Integers,
    of_row: Integers,
    word: Integers,
    words: Integers,
    word_offset: Integers,
    begins: Flags,
    text: Flags,
    lengths: Integers,
) -> None:
    """Count the spans of length 0 before the word where they stand, or behind the last word; in place."""
    if not len(of_row):
        return
    behind = word == words[of_row]
    word_places = np.flatnonzero(begins)
    np.add.at(before, word_places[(word_offset[of_row] + word)[~behind]], 1)
    text_places = np.flatnonzero(text)
    last_of_row = np.cumsum(count_by_row(text, lengths)) - 1
    np.add.at(after, text_places[last_of_row[of_row[behind]]], 1)
