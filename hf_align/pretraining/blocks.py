"""Documents to blocks of tokens: packed one after the other, or each by itself, cut where a block is full.

A block is a row of pre-training. Nothing is left out between blocks, and the last block is as long as it
comes out. Two ways to the same blocks: by number, from documents that lie in arrays (:class:`BlockRows`),
and one after the other, from a stream (:func:`stream_blocks`). What is hidden in a block is decided by the
collator of the objective, from the block's number and the epoch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hf_align.data.row_selection import RowSelection
from hf_align.data.tokenizing import tokenize
from hf_align.errors import UserError
from hf_align.pretraining.collators import token_blocks
from hf_align.types import LazySequence, PretrainingRow, TokenizedRow

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Ids = npt.NDArray[np.int32]


@dataclass(frozen=True)
class BlockForm:
    """How blocks are made.

    ``length``: tokens of a full block, ``head`` and ``tail`` included: the special tokens around it.
    ``opening``: ids that the tokenizer puts before a document, which are taken off. ``separator``: the id
    behind each document, or None. ``packing``: whether a block holds what comes after the end of a document.
    """

    length: int
    head: tuple[int, ...] = ()
    tail: tuple[int, ...] = ()
    opening: tuple[int, ...] = ()
    separator: int | None = None
    packing: bool = True

    @property
    def room(self) -> int:
        """Tokens of documents in a full block."""
        return self.length - len(self.head) - len(self.tail)

    def text_of(self, ids: Ids) -> Ids:
        """The ids of a document as they go into blocks."""
        ids = ids[len(self.opening) :]
        return ids if self.separator is None else np.append(ids, np.int32(self.separator))

    def row(self, pieces: Sequence[Ids], index: int, epoch: int, source: int = 0) -> PretrainingRow:
        """The block that holds these pieces of documents."""
        head, tail = np.array(self.head, np.int32), np.array(self.tail, np.int32)
        ids = np.concatenate([head, *pieces, tail])
        lengths = [len(piece) for piece in pieces]
        lengths[0] += len(head)
        lengths[-1] += len(tail)
        example = {"input_ids": ids, "segment_lengths": lengths, "index": index, "epoch": epoch}
        return PretrainingRow(example, len(ids), source)


def special_ends(tokenizer: PreTrainedTokenizerBase) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(ids before, ids behind) a text that the tokenizer encodes with its special tokens."""
    (tokens,) = tokenize(tokenizer, ["a"], add_special_tokens=True)
    own = np.flatnonzero(~tokens.added)
    if not len(own):
        return tuple(tokens.ids.tolist()), ()
    return tuple(tokens.ids[: own[0]].tolist()), tuple(tokens.ids[own[-1] + 1 :].tolist())


class BlockRows(LazySequence[PretrainingRow]):
    """The blocks of documents that can be read by number; an epoch changes their noise, not their text."""

    def __init__(self, documents: RowSelection, form: BlockForm, *, source: int = 0) -> None:
        if form.room < 2:
            raise UserError(
                f"block_length: found {form.length}, expected more: {form.length - form.room} tokens of a "
                "block are special ones"
            )
        self.documents = documents
        self.form = form
        self.source = source
        self.epoch = 0
        lengths = documents.lengths - len(form.opening) + (form.separator is not None)
        # With packing all documents are one line of tokens, else each is a line of its own.
        self._ends = np.cumsum(lengths)
        total = int(self._ends[-1]) if len(lengths) else 0
        lines = np.array([total]) if form.packing else lengths
        self._block_ends = np.cumsum(-(-lines // form.room))

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return int(self._block_ends[-1]) if len(self._block_ends) else 0

    def item(self, index: int) -> PretrainingRow:
        if self.form.packing:
            begin = index * self.form.room
            first = int(np.searchsorted(self._ends, begin, side="right"))
            begin -= int(self._ends[first - 1]) if first else 0
        else:
            first = int(np.searchsorted(self._block_ends, index, side="right"))
            begin = (index - (int(self._block_ends[first - 1]) if first else 0)) * self.form.room
        return self.form.row(self._pieces(first, begin), index, self.epoch, self.source)

    def _pieces(self, document: int, begin: int) -> list[Ids]:
        """What a block holds that begins at token ``begin`` of ``document``."""
        pieces: list[Ids] = []
        room = self.form.room
        while room and document < len(self.documents):
            text = self.form.text_of(self.documents[document].input_ids)[begin : begin + room]
            if len(text):
                pieces.append(text)
            room -= len(text)
            document, begin = document + 1, 0
            if not self.form.packing:
                break
        return pieces


def stream_blocks(documents: Iterable[TokenizedRow], form: BlockForm, epoch: int) -> Iterator[PretrainingRow]:
    """The same blocks, one after the other."""
    texts = (form.text_of(document.input_ids) for document in documents)
    index = 0
    lines: Iterable[Iterable[Any]] = [texts] if form.packing else ([text] for text in texts)
    for line in lines:
        for block in token_blocks(line, form.room, separator=None, keep_last=True):
            pieces = np.split(block["input_ids"], np.cumsum(block["segment_lengths"])[:-1])
            yield form.row(pieces, index, epoch)
            index += 1
