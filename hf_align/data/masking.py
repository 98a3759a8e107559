"""From character spans to target tokens, by position and never by the id of a token.

A token is a target when it covers at least one character of a span. Offsets come from the tokenizer, whole
(see ``tokenizing``); what is left to undo here are characters that belong to no token because normalisation
removed them, tokens without a character, and special tokens that swallow the white space around them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from re import Pattern

import numpy as np
import numpy.typing as npt

from hf_align.data.chat.spans import Span

Offsets = npt.NDArray[np.int64]
"""(L, 2): start and end in characters of each of L tokens."""


class IdSet:
    """A set of token ids, looked up for a whole row at once (``numpy.isin`` takes ten times as long)."""

    def __init__(self, ids: Iterable[int]) -> None:
        chosen = sorted(ids)
        # One place more than the largest id: there, at False, end all ids beyond it.
        self._table = np.zeros((chosen[-1] if chosen else 0) + 2, dtype=bool)
        self._table[chosen] = True

    def has(self, ids: npt.NDArray[np.int32]) -> npt.NDArray[np.bool_]:
        """(L,) whether each of L ids is in the set."""
        return np.take(self._table, ids, mode="clip")


def token_starts(offsets: Offsets) -> npt.NDArray[np.int64]:
    """(L,) where each token starts when it also owns the characters between it and the token before."""
    ends = np.maximum.accumulate(offsets[:, 1])
    before = np.concatenate((np.zeros(min(1, len(ends)), dtype=np.int64), ends[:-1]))
    starts: npt.NDArray[np.int64] = np.minimum(offsets[:, 0], before)
    return starts


def matching_spans(text: str, spans: Sequence[Span], patterns: Sequence[Pattern[str]]) -> list[Span]:
    """What the patterns match inside the spans, or their first group, in order; empty matches count not."""
    found = []
    for start, end in spans:
        for pattern in patterns:
            group = 1 if pattern.groups else 0
            matches = (match.span(group) for match in pattern.finditer(text[start:end]))
            found += [(start + first, start + last) for first, last in matches if first < last]
    return sorted(found)


def mask_of_spans(
    offsets: Offsets, is_special: npt.NDArray[np.bool_], spans: Sequence[Span]
) -> npt.NDArray[np.bool_]:
    """(L,) True for each token that covers a character of a span.

    ``is_special`` (L,): a special token that begins before a span is a header that swallows white space on
    its right, so it does not count. A token without characters (the word-start mark that SentencePiece sets
    alone before a character it does not know) belongs to the span in which it stands.
    """
    starts, ends = token_starts(offsets), offsets[:, 1]
    mask = np.zeros(len(offsets), dtype=bool)
    for start, end in spans:
        covers = (starts < end) & (ends > start)
        covers |= (starts == ends) & (starts >= start) & (starts < end)
        mask |= covers & ~(is_special & (offsets[:, 0] < start))
    return mask


def end_of_turn(
    text: str,
    offsets: Offsets,
    ends_turn: npt.NDArray[np.bool_],
    is_eos: npt.NDArray[np.bool_],
    span_end: int,
) -> range | None:
    """The tokens from the end of an answer through its end-of-turn token, or None where there is none.

    The end-of-turn token is the first special token (``ends_turn``, (L,)) after the answer with nothing but
    white space between. White space before it is in the range: the model has to write it to get there. Where
    more special tokens lead on from it to the tokenizer's EOS (``is_eos``, (L,)) with nothing between, they
    are in the range too, since generation stops only there.
    """
    first = int(np.searchsorted(np.maximum.accumulate(offsets[:, 1]), span_end, side="right"))
    for index in range(first, len(offsets)):
        start, end = int(offsets[index, 0]), int(offsets[index, 1])
        if ends_turn[index]:
            return range(first, _through_eos(offsets, ends_turn, is_eos, index) + 1)
        if text[max(start, span_end) : end].strip():
            return None
    return None


def _through_eos(
    offsets: Offsets, ends_turn: npt.NDArray[np.bool_], is_eos: npt.NDArray[np.bool_], index: int
) -> int:
    """The last token of a turn whose first end-of-turn token is at ``index``."""
    last = index
    while not is_eos[last]:
        following = last + 1
        if following == len(offsets) or not ends_turn[following]:
            return index
        if offsets[following, 0] != offsets[last, 1]:
            return index
        last = following
    return last
