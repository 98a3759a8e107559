"""Extends a Unigram or WordPiece vocabulary by the entries that training on the new text finds and it lacks.

A text that holds no new entry as a substring offers both algorithms the same choices as before, so its ids
stay. New Unigram pieces keep the scores of the new training. Entries that no word of the new text uses beside
the old ones are left out.
"""

from __future__ import annotations

import copy
import json
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from hf_align.tokenization.alphabet import LONGEST_TOKEN, Texts, read_alphabet, readable
from hf_align.tokenization.corpus import counted
from hf_align.tokenization.train import settled_pieces
from hf_align.types.tokens import NewToken

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from hf_align.tokenization.recipe import ExtendOptions

_SPARE = 2
"""Entries learned for each one wanted: some the vocabulary has, and some no word uses."""
_FILLER = -100.0
"""The score of a piece that stands only where an added token has its id."""


def add_entries(
    backend: Tokenizer,
    texts: Texts,
    options: ExtendOptions,
    *,
    first_id: int,
    min_frequency: int,
    show_progress: bool,
) -> tuple[dict[str, Any], list[NewToken]]:
    """The tokenizer with new entries, in the form of tokenizer.json, and its new tokens by their ids."""
    from tokenizers import Tokenizer

    state = json.loads(backend.to_str())
    unigram = state["model"]["type"] == "Unigram"
    only_new = options.new_tokens_from == "non_ascii"
    prefix = "" if unigram else state["model"]["continuing_subword_prefix"]
    learned = (_learned_pieces if unigram else _learned_words)(
        backend, state, texts, _SPARE * options.new_tokens, min_frequency, show_progress
    )
    known = backend.get_vocab(with_added_tokens=True)
    candidates: dict[str, float] = {}
    for token, score in learned.items():
        text = readable(token.removeprefix(prefix), byte_level=False).decode()
        if token in known or len(text) > LONGEST_TOKEN or (only_new and text.isascii()):
            continue
        candidates[token] = score
    trial = _with_entries(state, backend, candidates, first_id)
    read = counted(texts(), show_progress=show_progress)
    used = _used(Tokenizer.from_str(json.dumps(trial)), read, first_id)
    # In the order of training: the most frequent first, as both trainers have it.
    kept = dict([item for item in candidates.items() if item[0] in used][: options.new_tokens])
    unknown = backend.token_to_id(state["model"].get("unk_token") or "")
    unknown = state["model"]["unk_id"] if unigram else unknown
    tokens = []
    for token in kept:
        ids = [piece.id for piece in backend.model.tokenize(token.removeprefix(prefix))]
        tokens.append(NewToken(token, tuple(number for number in ids if number != unknown)))
    return _with_entries(state, backend, kept, first_id), tokens


def _with_entries(
    state: dict[str, Any], backend: Tokenizer, entries: dict[str, float], first_id: int
) -> dict[str, Any]:
    extended = copy.deepcopy(state)
    vocabulary = extended["model"]["vocab"]
    if extended["model"]["type"] == "WordPiece":
        vocabulary.update({token: first_id + place for place, token in enumerate(entries)})
        return extended
    # The id of a piece is its place: added tokens behind the pieces need a place of their own.
    vocabulary += [[backend.id_to_token(place) or "", _FILLER] for place in range(len(vocabulary), first_id)]
    vocabulary += [[token, score] for token, score in entries.items()]
    return extended


def _used(tokenizer: Tokenizer, texts: Iterable[str], first_id: int) -> set[str]:
    """The new entries with which the texts are written."""
    found: Counter[int] = Counter()
    for text in texts:
        found.update(tokenizer.encode(text, add_special_tokens=False).ids)
    return {str(tokenizer.id_to_token(number)) for number in found if number >= first_id}


def _learned_pieces(
    backend: Tokenizer, state: dict[str, Any], texts: Texts, wanted: int, min_frequency: int, show: bool
) -> dict[str, float]:
    from tokenizers import Tokenizer, models, trainers

    fresh = Tokenizer(models.Unigram())
    fresh.normalizer, fresh.pre_tokenizer = backend.normalizer, backend.pre_tokenizer
    alphabet = read_alphabet(counted(texts(), show_progress=show), fresh, limit=None, prefix="", suffix="")
    trainer = trainers.UnigramTrainer(
        vocab_size=len(alphabet) + wanted + 1,
        special_tokens=["<unk>"],
        unk_token="<unk>",
        max_piece_length=LONGEST_TOKEN,
        show_progress=show,
    )
    fresh.train_from_iterator(texts(), trainer)
    return {piece: score for piece, score in settled_pieces(json.loads(fresh.to_str())["model"]["vocab"][1:])}


def _learned_words(
    backend: Tokenizer, state: dict[str, Any], texts: Texts, wanted: int, min_frequency: int, show: bool
) -> dict[str, float]:
    from tokenizers import Tokenizer, models, trainers

    prefix = state["model"]["continuing_subword_prefix"]
    fresh = Tokenizer(models.WordPiece(unk_token="[UNK]", continuing_subword_prefix=prefix))
    fresh.normalizer, fresh.pre_tokenizer = backend.normalizer, backend.pre_tokenizer
    alphabet = read_alphabet(
        counted(texts(), show_progress=show), fresh, limit=wanted, prefix=prefix, suffix=""
    )
    trainer = trainers.WordPieceTrainer(
        vocab_size=len(alphabet) + wanted,
        min_frequency=min_frequency,
        special_tokens=["[UNK]", *alphabet.characters, *alphabet.marked],
        initial_alphabet=list(alphabet.characters),
        limit_alphabet=len(alphabet.characters),
        continuing_subword_prefix=prefix,
        show_progress=show,
    )
    fresh.train_from_iterator(texts(), trainer)
    ordered = sorted(fresh.get_vocab().items(), key=lambda item: item[1])
    return {token: 0.0 for token, _ in ordered}
