"""Next-token prediction on documents: packed into blocks, isolated from each other or not.

:func:`token_blocks` strings documents together, an end mark behind each, and cuts the line into blocks of one
length (as GPT-2 and GPT-3 were trained: Brown et al. 2020, appendix B). In such a block a document sees the
one before it. With ``isolated=True``, the collator keeps them apart: positions restart in every document, no
document predicts the first token of the next, and attention stays inside (as Llama 3: Grattafiori et al.
2024, section 3.2).

For the attention the isolated batch is one row without ``attention_mask``, from whose ``position_ids``
transformers' models read where documents begin, when they have a batch of one. The training loop of this
package packs rows itself (``hf_align.data.packing``) and needs no collator for this objective.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from hf_align.errors import UserError
from hf_align.pretraining.collators.base import Arrays, Collator, check_at_least, tensors
from hf_align.pretraining.collators.draws import Integers
from hf_align.pretraining.collators.rows import Rows, read_rows
from hf_align.types import IGNORE_INDEX


def token_blocks(
    documents: Iterable[Any], length: int, *, separator: int | None, keep_last: bool = False
) -> Iterator[dict[str, Any]]:
    """Blocks of ``length`` tokens from a stream of documents (each a sequence of ids), nothing left out
    between.

    ``separator``: the id put behind each document that does not end with it, or None. Each block is an
    example: ``input_ids`` (length,) int32, ``segment_lengths``: the pieces of documents in it, ``index``: its
    number. Tokens that do not fill a last block are left out, or make a shorter one with ``keep_last``.
    """
    check_at_least("length", length, 1)
    pieces: list[npt.NDArray[np.int32]] = []
    gathered = number = 0
    for document in documents:
        ids = np.asarray(document, dtype=np.int32)
        if separator is not None and not (len(ids) and ids[-1] == separator):
            ids = np.append(ids, np.int32(separator))
        while len(ids):
            pieces.append(ids[: length - gathered])
            gathered += len(pieces[-1])
            ids = ids[len(pieces[-1]) :]
            if gathered == length:
                yield _block(pieces, number)
                pieces, gathered, number = [], 0, number + 1
    if pieces and keep_last:
        yield _block(pieces, number)


def _block(pieces: list[npt.NDArray[np.int32]], number: int) -> dict[str, Any]:
    lengths = [len(piece) for piece in pieces]
    return {"input_ids": np.concatenate(pieces), "segment_lengths": lengths, "index": number}


@dataclass(frozen=True, eq=False, kw_only=True)
class CausalCollator(Collator):
    """``input_ids`` and ``labels``, with ``position_ids`` (1, T) or ``attention_mask`` (B, T).

    ``labels`` equal the ids, as transformers' models shift them themselves. Isolated: all examples in one row
    of T tokens, ``position_ids`` restarting and the label -100 at each document's first token; an example
    with ``segment_lengths`` holds several documents, any other one. Not isolated: one padded row an example,
    -100 on padding. Nothing here is random.
    """

    isolated: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.isolated:
            _ = self.vocabulary.pad_id

    def __call__(self, examples: Sequence[Any]) -> dict[str, torch.Tensor]:
        if not self.isolated:
            return super().__call__(examples)
        rows = read_rows(examples, seed=self.seed, epoch=self.epoch)
        self.vocabulary.check_ids(rows.ids)
        lengths: list[int] = []
        for example, length in zip(examples, rows.lengths.tolist(), strict=True):
            segments = example.get("segment_lengths") if isinstance(example, dict) else None
            if segments is not None and sum(segments) != length:
                raise UserError(
                    f"segment_lengths add up to {sum(segments)}, but the example has {length} tokens"
                )
            lengths += segments or [length]
        return tensors(one_line(rows.ids, np.array(lengths, dtype=np.int64)))

    def collate(self, rows: Rows) -> Arrays:
        batch = self.padded_inputs(rows.ids, rows.lengths)
        batch["labels"] = self.padded_labels(rows.ids, rows.lengths)
        return batch


def one_line(ids: Integers, lengths: Integers) -> Arrays:
    """Documents of these ``lengths`` (S,) side by side: ids, positions and labels, each (1, T)."""
    starts = np.cumsum(lengths) - lengths
    labels = ids.copy()
    labels[starts] = IGNORE_INDEX
    positions = np.arange(len(ids)) - np.repeat(starts, lengths)
    return {"input_ids": ids[None], "position_ids": positions[None], "labels": labels[None]}
