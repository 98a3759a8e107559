"""Prefix language modelling: read the first part of a text in both directions, predict the rest of it.

Raffel et al. 2020, section 3.2.1 and 3.3.1 (after Liu et al. 2018): the text is cut at a random token, every
cut that leaves something on both sides equally likely. ``form="encoder_decoder"`` gives the first part to the
encoder and the rest to the decoder, each closed with EOS. ``form="decoder"`` keeps one row, in which the
first part is visible to all tokens and only the rest is predicted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from hf_align.errors import UserError
from hf_align.pretraining.collators.base import Arrays, Collator
from hf_align.pretraining.collators.draws import Draws, Integers, below
from hf_align.pretraining.collators.rows import Rows, starts_of
from hf_align.pretraining.collators.span_corruption import closed, without_closing
from hf_align.types import IGNORE_INDEX

Form = Literal["encoder_decoder", "decoder"]
_CUT = 50


def prefix_lengths(lengths: Integers, draws: Draws) -> Integers:
    """(B,) uniform from 1 to the length - 1; 1 for a text of one token."""
    return 1 + below(draws.bits(_CUT, 1)[:, 0], np.maximum(lengths - 1, 1))


def prefix_attention(prefixes: Integers, lengths: Integers, width: int) -> npt.NDArray[np.float32]:
    """(B, 1, T, T) what is added to attention scores: 0 where row sees column, else the lowest float32.

    A token sees the whole prefix, and what stands before it. Nothing sees padding. Transformers' models hand
    a mask of four dimensions to eager and to scaled-dot-product attention as it is.
    """
    columns = np.arange(width)
    seen = (columns <= columns[:, None]) | (columns < prefixes[:, None, None])
    seen &= columns < lengths[:, None, None]
    return np.where(seen, np.float32(0), np.finfo(np.float32).min)[:, None]


@dataclass(frozen=True, eq=False, kw_only=True)
class PrefixLMCollator(Collator):
    """``input_ids``, ``attention_mask`` and ``labels`` for either form.

    Examples: token ids; for an encoder-decoder model without special tokens (an EOS at the end is put back).
    For a decoder the ``attention_mask`` is that of :func:`prefix_attention`, T x T for each row, and
    ``labels`` are -100 on the prefix and equal the ids elsewhere, as transformers' models shift them
    themselves.
    """

    form: Form = "encoder_decoder"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.form not in get_args(Form):
            raise UserError(f"form: found {self.form!r}, expected 'encoder_decoder' or 'decoder'")
        _ = self.vocabulary.pad_id
        if self.form == "encoder_decoder":
            _ = self.vocabulary.eos_id

    def collate(self, rows: Rows) -> Arrays:
        if self.form == "decoder":
            return self._one_row(rows)
        eos = self.vocabulary.eos_id
        ids, lengths = without_closing(rows, eos)
        prefixes = np.minimum(prefix_lengths(lengths, rows.draws), lengths)
        in_prefix = np.arange(len(ids)) < np.repeat(starts_of(lengths) + prefixes, lengths)
        batch = self.padded_inputs(*closed(ids[in_prefix], prefixes, eos))
        batch["labels"] = self.padded_labels(*closed(ids[~in_prefix], lengths - prefixes, eos))
        return batch

    def _one_row(self, rows: Rows) -> Arrays:
        batch = self.padded_inputs(rows.ids, rows.lengths)
        labels = self.padded_labels(rows.ids, rows.lengths)
        prefixes = prefix_lengths(rows.lengths, rows.draws)
        width = labels.shape[1]
        labels[np.arange(width) < prefixes[:, None]] = IGNORE_INDEX
        batch["attention_mask"] = prefix_attention(prefixes, rows.lengths, width)
        batch["labels"] = labels
        return batch
