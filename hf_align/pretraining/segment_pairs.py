"""Pairs of segments as rows: drawn anew in every epoch, from documents in arrays or from a stream.

``collators.nsp`` draws the pairs of all documents once; how many there are differs a little from draw to
draw. An epoch of training has as many rows as the first draw: the pairs of one draw follow those of the one
before, so that every pair of every draw is trained once, wherever an epoch ends. In a stream a draw is made
of the documents of one buffer.

Sentences end where a token ends one (``Vocabulary.ends_sentence``), so that documents need their ids only.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from hf_align.errors import UserError
from hf_align.pretraining.collators.nsp import SPECIALS_OF_A_PAIR, PairKind, sentence_pairs
from hf_align.types import PretrainingRow, TokenizedRow

logger = logging.getLogger(__name__)

_ADVICE = (
    "Where a .txt file has a sentence a line and a blank line between documents, write "
    "`{path: …, text_unit: paragraph}`."
)


@dataclass(frozen=True)
class PairForm:
    """How pairs are drawn.

    ``length``: tokens of the longest pair, special ones included. ``opening``: how many ids the tokenizer
    puts before a document. ``ends_sentence`` (V,): tokens that end a sentence.
    """

    length: int
    kind: PairKind
    seed: int
    opening: int
    ends_sentence: npt.NDArray[np.bool_]

    def sentences(self, document: TokenizedRow) -> list[list[int]]:
        """The ids of each sentence, the longest cut to what a pair has room for."""
        ids = document.input_ids[self.opening :]
        ends = np.flatnonzero(self.ends_sentence[ids]) + 1
        sentences = (piece.tolist() for piece in np.split(ids, ends) if len(piece))
        room = self.length - SPECIALS_OF_A_PAIR
        return [one[at : at + room] for one in sentences for at in range(0, len(one), room)]

    def draw(
        self, documents: Sequence[list[list[int]]], number: int, source: int = 0
    ) -> list[PretrainingRow]:
        """The pairs of the draw of this number."""
        pairs = sentence_pairs(
            documents, max_length=self.length, kind=self.kind, seed=self.seed, epoch=number
        )
        return [pair_row(pair, source) for pair in pairs]


def pair_row(example: dict[str, Any], source: int = 0) -> PretrainingRow:
    """The row of one pair."""
    length = len(example["first"]) + len(example["second"]) + SPECIALS_OF_A_PAIR
    return PretrainingRow(example, length, source)


class PairRows(Sequence[PretrainingRow]):
    """The pairs of documents that fit into memory; :meth:`set_epoch` draws those of another epoch."""

    def __init__(self, documents: Iterable[TokenizedRow], form: PairForm, *, source: int = 0) -> None:
        self.form = form
        self.source = source
        self.documents = [found for document in documents if (found := form.sentences(document))]
        self._rows = self._first = form.draw(self.documents, 0, source)
        several = sum(len(document) > 1 for document in self.documents)
        if not several:
            what = "there is no pair to train on" if form.kind == "sop" else "all pairs are random"
            raise UserError(
                f"objective {form.kind}: no document has two sentences, so that {what}. {_ADVICE}"
            )
        if several < len(self.documents) / 2:
            logger.warning(
                "objective %s: %d of %d documents have one sentence, and no pair of their own. %s",
                *(form.kind, len(self.documents) - several, len(self.documents), _ADVICE),
            )
        self._later: list[PretrainingRow] = []
        self._epoch = self._drawn = 0

    def set_epoch(self, epoch: int) -> None:
        """The rows are those of this epoch from now on."""
        if epoch < self._epoch:
            self._rows, self._later, self._epoch, self._drawn = self._first, [], 0, 0
        while self._epoch < epoch:
            while len(self._later) < len(self._first):
                self._drawn += 1
                self._later += self.form.draw(self.documents, self._drawn, self.source)
            self._rows, self._later = self._later[: len(self._first)], self._later[len(self._first) :]
            self._epoch += 1

    def __len__(self) -> int:
        return len(self._first)

    def __getitem__(self, index: Any) -> Any:
        return self._rows[index]


def stream_pairs(
    documents: Iterable[TokenizedRow], form: PairForm, epoch: int, *, buffer_size: int
) -> Iterator[PretrainingRow]:
    """The pairs of each ``buffer_size`` documents after another; too few documents at the end make none.

    Next-sentence prediction needs two documents for a pair, sentence-order prediction one.
    """
    waiting = iter(documents)
    buffer_number = 0
    while chunk := list(islice(waiting, buffer_size)):
        found = [sentences for document in chunk if (sentences := form.sentences(document))]
        if len(found) >= (2 if form.kind == "nsp" else 1):
            # Buffers of an epoch, and epochs, must not draw alike: both numbers choose.
            yield from form.draw(found, (epoch << 32) + buffer_number)
        buffer_number += 1
