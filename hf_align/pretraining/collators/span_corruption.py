"""T5's span corruption: spans of the text become sentinels, and the targets say what stood there.

Raffel et al. 2020, section 3.1.4, with the span lengths of section 3.3.4 (15 % of the tokens, mean length 3),
after ``random_spans_noise_mask`` of the T5 code: for L tokens, noise = round(0.15 L) within [1, L - 1], spans
= max(1, round(noise / 3)). Noise and kept tokens are each cut into that many pieces, every way of cutting
equally likely, and the pieces interleaved, kept text first. So the inputs end with a sentinel.

    text     Thank you for inviting me to your party last week .
    inputs   Thank you <extra_id_0> me to your party <extra_id_1> </s>
    targets  <extra_id_0> for inviting <extra_id_1> last week . </s>

Sentinels are looked up by name: a T5 model's embedding matrix has more rows than its tokenizer has tokens, so
they cannot be counted from the end of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hf_align.errors import UserError
from hf_align.pretraining.collators.base import Arrays, Collator, check_at_least
from hf_align.pretraining.collators.draws import NEVER, Draws, Integers
from hf_align.pretraining.collators.rows import Rows, starts_of

_CUT_NOISE, _CUT_KEPT = 20, 21


def span_corruption_lengths(
    inputs_length: int, *, noise_density: float = 0.15, mean_span_length: float = 3.0
) -> tuple[int, int]:
    """(raw_length, targets_length): how much text fills inputs of this length, and how long its targets are.

    ``raw_length`` is the largest number of tokens, EOS not counted, whose corrupted inputs with sentinels and
    EOS have at most ``inputs_length`` tokens; the targets then have ``targets_length`` with theirs.
    T5: 512 gives (568, 114). Raises UserError where not even two tokens fit, and for options out of range.
    """
    _check_noise(noise_density, mean_span_length)

    def lengths(raw: int) -> tuple[int, int]:
        noise, spans = noise_counts(np.array([raw]), noise_density, mean_span_length)
        return int(raw - noise[0] + spans[0] + 1), int(noise[0] + spans[0] + 1)

    # A token more makes the inputs one longer, or leaves their length where it becomes noise.
    raw = max(2, inputs_length - 1)
    if lengths(raw)[0] > inputs_length:
        raise UserError(f"inputs_length: found {inputs_length}, expected at least {lengths(2)[0]}")
    while lengths(raw + 1)[0] <= inputs_length:
        raw += 1
    return raw, lengths(raw)[1]


def noise_counts(
    lengths: Integers, noise_density: float, mean_span_length: float
) -> tuple[Integers, Integers]:
    """((B,) noise tokens, (B,) spans) of texts of these lengths; none where there are fewer than two
    tokens.
    """
    noise = np.clip(np.rint(lengths * noise_density), 1, np.maximum(lengths - 1, 0)).astype(np.int64)
    spans = np.maximum(np.rint(noise / mean_span_length), 1).astype(np.int64)
    return noise, np.minimum(spans, np.minimum(noise, lengths - noise))


def random_pieces(totals: Integers, pieces: Integers, draws: Draws, purpose: int) -> Integers:
    """(sum of pieces,) lengths that cut each total into so many pieces of at least 1, uniformly at random.

    ``totals`` and ``pieces`` (B,), pieces from 1 to the total; a total of 0 gives one piece of length 0.
    """
    width = max(1, int(totals.max()) - 1)
    keys = draws.sort_keys(purpose, width)
    keys[np.arange(width) >= totals[:, None] - 1] = NEVER
    # The places of the pieces - 1 smallest keys are a uniformly random set of cuts.
    ranked = np.sort(keys, axis=1)
    last = np.take_along_axis(ranked, np.maximum(pieces - 2, 0)[:, None], axis=1)
    cuts = (keys <= last) & (pieces > 1)[:, None]
    begins = np.concatenate((np.ones((len(totals), 1), dtype=bool), cuts), axis=1)
    rows, columns = np.nonzero(begins)
    return np.diff(starts_of(totals)[rows] + columns, append=int(totals.sum()))


class Spans(NamedTuple):
    """Where the noise is in texts of N tokens in all, put one after the other.

    ``noise`` (N,): True on noise tokens. ``starts`` (S,): the first token of each span. ``numbers`` (S,): of
    the span in its own text, from 0. ``noise_counts`` and ``span_counts`` (B,).
    """

    noise: npt.NDArray[np.bool_]
    starts: Integers
    numbers: Integers
    noise_counts: Integers
    span_counts: Integers


def noise_spans(
    lengths: Integers, draws: Draws, *, noise_density: float = 0.15, mean_span_length: float = 3.0
) -> Spans:
    """Random spans in texts of these ``lengths`` (B,)."""
    noise, spans = noise_counts(lengths, noise_density, mean_span_length)
    pieces = np.maximum(spans, 1)
    interleaved = np.empty(2 * int(pieces.sum()), dtype=np.int64)
    interleaved[0::2] = random_pieces(lengths - noise, pieces, draws, _CUT_KEPT)
    interleaved[1::2] = random_pieces(noise, pieces, draws, _CUT_NOISE)
    is_noise = np.zeros(len(interleaved), dtype=bool)
    is_noise[1::2] = True
    starts = starts_of(interleaved)[1::2]
    numbers = np.arange(len(starts)) - np.repeat(starts_of(pieces), pieces)
    real = np.repeat(spans > 0, pieces)
    return Spans(np.repeat(is_noise, interleaved), starts[real], numbers[real], noise, spans)


def corrupt(ids: Integers, spans: Spans, sentinels: Integers) -> tuple[Integers, Integers]:
    """(inputs, targets) of all texts, flat and without EOS; ``ids`` (N,), ``sentinels`` (at least spans,)."""
    marks = sentinels[spans.numbers]
    inputs = ids.copy()
    inputs[spans.starts] = marks
    kept = ~spans.noise
    kept[spans.starts] = True
    is_start = np.zeros(len(ids), dtype=np.int64)
    is_start[spans.starts] = 1
    # Each noise token moves behind the sentinels of its own span and of those before.
    places = np.arange(int(spans.noise.sum())) + np.cumsum(is_start[spans.noise])
    targets = np.empty(len(places) + len(marks), dtype=np.int64)
    targets[places] = ids[spans.noise]
    targets[places[is_start[spans.noise] > 0] - 1] = marks
    return inputs[kept], targets


def closed(ids: Integers, lengths: Integers, eos: int) -> tuple[Integers, Integers]:
    """Flat rows, each with EOS behind it: (ids, lengths)."""
    return np.insert(ids, np.cumsum(lengths), eos), lengths + 1


def without_closing(rows: Rows, eos: int) -> tuple[Integers, Integers]:
    """(ids, lengths) of rows without the EOS that some of them end with."""
    last = rows.starts + rows.lengths - 1
    ends = rows.ids[last] == eos
    if not ends.any():
        return rows.ids, rows.lengths
    return np.delete(rows.ids, last[ends]), rows.lengths - ends


@dataclass(frozen=True, eq=False, kw_only=True)
class SpanCorruptionCollator(Collator):
    """``input_ids`` and ``attention_mask`` (B, T_in), ``labels`` (B, T_out) for an encoder-decoder model.

    Examples: token ids without special tokens; an EOS at the end is put back after the corruption. Texts cut
    to the raw length of :func:`span_corruption_lengths` fill their inputs exactly.

    Raises UserError where a text needs more sentinels than the tokenizer has.
    """

    noise_density: float = 0.15
    mean_span_length: float = 3.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_noise(self.noise_density, self.mean_span_length)
        _ = self.vocabulary.eos_id, self.vocabulary.pad_id, self.vocabulary.sentinels

    def collate(self, rows: Rows) -> Arrays:
        eos, sentinels = self.vocabulary.eos_id, self.vocabulary.sentinels
        ids, lengths = without_closing(rows, eos)
        spans = noise_spans(
            lengths, rows.draws, noise_density=self.noise_density, mean_span_length=self.mean_span_length
        )
        self._check_sentinels(lengths, spans.span_counts)
        inputs, targets = corrupt(ids, spans, sentinels)
        batch = self.padded_inputs(*closed(inputs, lengths - spans.noise_counts + spans.span_counts, eos))
        batch["labels"] = self.padded_labels(*closed(targets, spans.noise_counts + spans.span_counts, eos))
        return batch

    def _check_sentinels(self, lengths: Integers, spans: Integers) -> None:
        available = len(self.vocabulary.sentinels)
        row = int(spans.argmax())
        if spans[row] > available:
            raise UserError(
                f"a text of {lengths[row]} tokens is to lose {spans[row]} spans, but the tokenizer has only "
                f"{available} sentinels (<extra_id_0> to <extra_id_{available - 1}>): cut the texts shorter, "
                "raise mean_span_length, or add sentinels to the tokenizer"
            )


def _check_noise(noise_density: float, mean_span_length: float) -> None:
    if not 0 < noise_density < 1:
        raise UserError(f"noise_density: found {noise_density}, expected a number above 0 and below 1")
    check_at_least("mean_span_length", mean_span_length, 1)
