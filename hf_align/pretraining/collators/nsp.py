"""Pairs of segments: BERT's next-sentence prediction and ALBERT's sentence-order prediction, with masking.

:func:`sentence_pairs` follows BERT's ``create_pretraining_data.py`` (Devlin et al. 2019, appendix A.2).
Sentences of a document are gathered to a target length: the room for tokens, or with probability 0.1 a length
drawn from 2 to that room. The chunk is cut after a random sentence into A and the rest. With probability 0.5,
and always where the chunk is a single sentence, B comes from a random place in another document and the
unused rest is put back; otherwise B is the rest. Too long a pair loses tokens from the longer side, at a
random end, one at a time. One thing differs: BERT gives up looking for another document after ten draws, here
the draw leaves out its own.

Sentence-order prediction (Lan et al. 2020, section 3.1) keeps A and the rest, and swaps them with probability
0.5. A chunk then needs two sentences; a lone one at the end of a document makes no pair.

Pairs are drawn per epoch; the collator adds ``[CLS] A [SEP] B [SEP]``, segment ids and masks as ``mlm`` does.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch

from hf_align.errors import UserError
from hf_align.pretraining.collators.base import check_at_least, check_probability, tensors
from hf_align.pretraining.collators.draws import Draws, example_keys
from hf_align.pretraining.collators.mlm import MaskedLMCollator
from hf_align.pretraining.collators.rows import Rows, flat_ids, ids_of, keys_of

PairKind = Literal["nsp", "sop"]
Document = Sequence[Sequence[int]]
"""The token ids of each sentence of a document, without special tokens."""

SPECIALS_OF_A_PAIR = 3
_PAIRS_BITS = 20
LABELS: dict[str, str] = {"nsp": "next_sentence_label", "sop": "sentence_order_label"}
"""What transformers' models call the label: 0 where B follows A, 1 where it does not."""


def sentence_pairs(
    documents: Sequence[Document],
    *,
    max_length: int,
    kind: PairKind = "nsp",
    seed: int = 0,
    epoch: int = 0,
    short_probability: float = 0.1,
    random_probability: float = 0.5,
) -> list[dict[str, Any]]:
    """The pairs of one epoch, in the order of the documents: examples for :class:`SentencePairCollator`.

    Each has ``first`` and ``second`` (lists of ids, together at most ``max_length`` - 3), ``label`` (1: B is
    random, or swapped), ``index`` and ``epoch``. The pairs of a document depend on (seed, epoch, its number)
    and for random B on the other documents. ``random_probability``: of a random B, or of a swap.

    Raises UserError where next-sentence prediction gets fewer than two documents, for an empty document or
    sentence, and for options out of range.
    """
    check_probability(short_probability=short_probability, random_probability=random_probability)
    check_at_least("max_length", max_length, SPECIALS_OF_A_PAIR + 2)
    _check_kind(kind)
    if kind == "nsp" and len(documents) < 2:
        raise UserError(
            f"next-sentence prediction draws from other documents, but there is only {len(documents)}; "
            "give at least two documents, or use sentence-order prediction (sop)"
        )
    for number, document in enumerate(documents):
        if not document or not all(len(sentence) for sentence in document):
            raise UserError(f"document {number} is empty or has a sentence without tokens; leave those out")
    numbers = np.arange(len(documents))
    keys = example_keys(seed, np.full(len(documents), epoch), numbers)
    examples = []
    for number, key in enumerate(keys.tolist()):
        pairs = document_pairs(
            documents,
            number,
            random.Random(key),
            room=max_length - SPECIALS_OF_A_PAIR,
            kind=kind,
            short_probability=short_probability,
            random_probability=random_probability,
        )
        for n, (first, second, label) in enumerate(pairs):
            index = (number << _PAIRS_BITS) + n
            examples.append(
                {"first": first, "second": second, "label": label, "index": index, "epoch": epoch}
            )
    return examples


def document_pairs(
    documents: Sequence[Document],
    number: int,
    rng: random.Random,
    *,
    room: int,
    kind: PairKind = "nsp",
    short_probability: float = 0.1,
    random_probability: float = 0.5,
) -> Iterator[tuple[list[int], list[int], int]]:
    """(A, B, label) for the document of this number; A and B together have at most ``room`` tokens."""
    document = documents[number]
    target = rng.randint(2, room) if rng.random() < short_probability else room
    chunk: list[Sequence[int]] = []
    place = 0
    while place < len(document):
        chunk.append(document[place])
        place += 1
        gathered = sum(map(len, chunk)) >= target and (kind == "nsp" or len(chunk) > 1)
        if not gathered and place < len(document):
            continue
        if kind == "sop" and len(chunk) < 2:
            return
        cut = rng.randint(1, len(chunk) - 1) if len(chunk) > 1 else 1
        first, second = _joined(chunk[:cut]), _joined(chunk[cut:])
        other = rng.random() < random_probability if len(chunk) > 1 else True
        if other and kind == "nsp":
            place -= len(chunk) - cut
            second = _random_segment(documents, number, target - len(first), rng)
        elif other:
            first, second = second, first
        yield *truncate_pair(first, second, room, rng), int(other)
        chunk = []


def truncate_pair(
    first: list[int], second: list[int], room: int, rng: random.Random
) -> tuple[list[int], list[int]]:
    """Both without the tokens that are too many: each from the longer (B, where equal), at a random end."""
    surplus = max(0, len(first) + len(second) - room)
    # Alternating removals bring the longer down to the shorter, then both down together, B first.
    level = min(surplus, abs(len(first) - len(second)))
    rest = surplus - level
    longer_is_first = len(first) > len(second)
    from_first = (level if longer_is_first else 0) + rest // 2
    from_second = (0 if longer_is_first else level) + rest - rest // 2
    return _cut_ends(first, from_first, rng), _cut_ends(second, from_second, rng)


def _cut_ends(ids: list[int], number: int, rng: random.Random) -> list[int]:
    """``ids`` without ``number`` tokens, each taken from either end with probability one half."""
    front = rng.getrandbits(number).bit_count() if number else 0
    return ids[front : len(ids) - (number - front)]


def _random_segment(documents: Sequence[Document], own: int, wanted: int, rng: random.Random) -> list[int]:
    """Sentences of another document from a random one on, until there are ``wanted`` tokens."""
    number = rng.randrange(len(documents) - 1)
    document = documents[number + (number >= own)]
    segment: list[int] = []
    for sentence in document[rng.randrange(len(document)) :]:
        segment.extend(sentence)
        if len(segment) >= wanted:
            break
    return segment


def _joined(sentences: Sequence[Sequence[int]]) -> list[int]:
    return [id for sentence in sentences for id in sentence]


def _check_kind(kind: str) -> None:
    if kind not in get_args(PairKind):
        raise UserError(f"kind: found {kind!r}, expected 'nsp' (next sentence) or 'sop' (sentence order)")


@dataclass(frozen=True, eq=False, kw_only=True)
class SentencePairCollator(MaskedLMCollator):
    """What :class:`MaskedLMCollator` gives, and ``token_type_ids`` (B, T) and a label (B,) for each pair.

    Examples: as :func:`sentence_pairs` makes them. The label is called ``next_sentence_label``, or
    ``sentence_order_label`` with ``kind="sop"``.
    """

    kind: PairKind = "nsp"

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_kind(self.kind)
        _ = self.vocabulary.cls_id, self.vocabulary.sep_id

    def __call__(self, examples: Sequence[Any]) -> dict[str, torch.Tensor]:
        firsts = [list(ids_of(example, "first")) for example in examples]
        seconds = [list(ids_of(example, "second")) for example in examples]
        cls, sep = self.vocabulary.cls_id, self.vocabulary.sep_id
        ids, lengths = flat_ids(
            [[cls, *first, sep, *second, sep] for first, second in zip(firsts, seconds, strict=True)]
        )
        self.vocabulary.check_ids(ids)
        keys = keys_of(examples, ids, lengths, seed=self.seed, epoch=self.epoch)
        batch = self.collate(Rows(ids, lengths, Draws(keys)))
        second_starts = np.array([len(first) + 2 for first in firsts])
        behind = np.arange(batch["input_ids"].shape[1]) >= second_starts[:, None]
        batch["token_type_ids"] = (behind & (batch["attention_mask"] > 0)).astype(np.int64)
        batch[LABELS[self.kind]] = np.array([example["label"] for example in examples], dtype=np.int64)
        return tensors(batch)
