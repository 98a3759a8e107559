"""Trains a tokenizer with the tokenizers library, so that the same text gives the same file on every run.

The library alone does not: where a character has two forms (at the end of a word, inside a word), their ids
follow the order of a hash table, which then decides between equally frequent pairs, and so do the last digits
of Unigram scores. ``alphabet`` fixes the former, ``settled`` the latter.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hf_align.data.chat.templates import resolve_chat_template
from hf_align.errors import UserError
from hf_align.tokenization.alphabet import Alphabet, read_alphabet
from hf_align.tokenization.corpus import counted
from hf_align.tokenization.special_tokens import SpecialTokens, put_around, special_tokens

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    from hf_align.tokenization.recipe import TokenizerOptions

logger = logging.getLogger(__name__)

END_OF_WORD = "</w>"
CONTINUED = "##"
LONGEST_PIECE = 16
"""Characters of the longest piece of a Unigram vocabulary, as in SentencePiece."""

_SCORE_DECIMALS = 4


@dataclass(frozen=True)
class TokenizerKind:
    """``build(options, unknown)``: the untrained tokenizer. ``prefix`` and ``suffix``: what marks a character
    inside a word, or at its end."""

    build: Callable[[TokenizerOptions, str | None], Tokenizer]
    prefix: str = ""
    suffix: str = ""


def train_tokenizer(
    texts: Callable[[], Iterable[str]], options: TokenizerOptions, *, show_progress: bool = True
) -> PreTrainedTokenizerFast:
    """A tokenizer trained on ``texts()``, which is called twice where the alphabet has to be known first.

    Raises UserError where there is no text, and where ``vocab_size`` does not hold the special tokens and the
    alphabet.
    """
    from transformers import PreTrainedTokenizerFast

    template = resolve_chat_template(options.chat_template_path) if options.chat_template_path else None
    special = special_tokens(options, template)
    kind = KINDS[options.tokenizer_type]
    tokenizer = kind.build(options, special.unknown)
    alphabet = _alphabet(texts, tokenizer, kind, options, show_progress)
    _check_size(options, special, alphabet)
    trainer = _trainer(options, special, alphabet, kind, show_progress)
    tokenizer.train_from_iterator(_some(texts()), trainer)
    tokenizer = settled(tokenizer, special)
    _append_last(tokenizer, special)
    put_around(tokenizer, special.family)
    if tokenizer.get_vocab_size() < options.vocab_size:
        logger.warning(
            "vocab_size: the text gave %d of %d tokens; more text, or a lower min_frequency, gives more",
            tokenizer.get_vocab_size(),
            options.vocab_size,
        )
    side = special.family.padding_side if options.padding_side == "auto" else options.padding_side
    segments = ["token_type_ids"] if special.family.segments else []
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        padding_side=side,
        model_max_length=options.model_max_length or int(1e30),
        model_input_names=["input_ids", *segments, "attention_mask"],
        clean_up_tokenization_spaces=False,
        **special.roles,
    )
    wrapped.chat_template = template
    return wrapped


def settled(tokenizer: Tokenizer, special: SpecialTokens) -> Tokenizer:
    """The tokenizer without what depends on the run: the alphabet is no longer special, and Unigram pieces
    have scores of four decimals, in the order of score and text."""
    from tokenizers import Tokenizer

    state = json.loads(tokenizer.to_str())
    own = {*special.first, *special.last}
    state["added_tokens"] = [token for token in state["added_tokens"] if token["content"] in own]
    if state["model"]["type"] == "Unigram":
        count = len(special.first)
        vocabulary = state["model"]["vocab"]
        state["model"]["vocab"] = vocabulary[:count] + settled_pieces(vocabulary[count:])
    return Tokenizer.from_str(json.dumps(state))


def settled_pieces(pieces: list[list[Any]]) -> list[list[Any]]:
    """``[piece, score]`` by falling score, then by text.

    Characters that no piece was worth keeping for get the lowest score plus 0, 1, 2, … times 0.0001, in the
    order of a hash table; they are given these scores in the order of the characters.
    """
    lowest = min(score for _, score in pieces)
    kept_for_completeness = []
    for piece, score in pieces:
        step = (score - lowest) / 1e-4
        if len(piece) == 1 and step < len(pieces) and abs(step - round(step)) < 1e-5:
            kept_for_completeness.append((piece, score))
    scores = sorted((score for _, score in kept_for_completeness), reverse=True)
    renewed = dict(zip(sorted(piece for piece, _ in kept_for_completeness), scores, strict=True))
    rounded = [[piece, round(renewed.get(piece, score), _SCORE_DECIMALS)] for piece, score in pieces]
    return sorted(rounded, key=lambda item: (-item[1], item[0]))


def _some(texts: Iterable[str]) -> Iterator[str]:
    empty = True
    for text in texts:
        empty = empty and not text.strip()
        yield text
    if empty:
        raise UserError("datasets: there is no text to train on.")


def _alphabet(
    texts: Callable[[], Iterable[str]],
    tokenizer: Tokenizer,
    kind: TokenizerKind,
    options: TokenizerOptions,
    show: bool,
) -> Alphabet:
    if options.tokenizer_type == "byte_level_bpe":
        from tokenizers import pre_tokenizers

        return Alphabet(tuple(sorted(pre_tokenizers.ByteLevel.alphabet())), (), 0)
    limit = options.limit_alphabet if options.tokenizer_type != "unigram" else None
    # The second reading is counted by the library.
    read = counted(_some(texts()), show_progress=show)
    found = read_alphabet(read, tokenizer, limit=limit, prefix=kind.prefix, suffix=kind.suffix)
    if found.dropped:
        logger.warning(
            "limit_alphabet: the %d rarest characters are left out and become the unknown token",
            found.dropped,
        )
    return found


def _check_size(options: TokenizerOptions, special: SpecialTokens, alphabet: Alphabet) -> None:
    needed = len(special) + len(alphabet)
    if needed <= options.vocab_size:
        return
    what = "bytes" if options.tokenizer_type == "byte_level_bpe" else "characters"
    less = " or lower limit_alphabet" if options.tokenizer_type in ("bpe", "wordpiece") else ""
    forms = f" in {len(alphabet):,} forms" if alphabet.marked else ""
    raise UserError(
        f"vocab_size: found {options.vocab_size:,}, but {len(special):,} special tokens and "
        f"{len(alphabet.characters):,} {what}{forms} take {needed:,}; raise it to more than that{less}."
    )


def _trainer(
    options: TokenizerOptions, special: SpecialTokens, alphabet: Alphabet, kind: TokenizerKind, show: bool
) -> Any:
    from tokenizers import trainers

    size = options.vocab_size - len(special.last)
    if options.tokenizer_type == "unigram":
        return trainers.UnigramTrainer(
            vocab_size=size,
            special_tokens=list(special.first),
            unk_token=special.unknown,
            max_piece_length=LONGEST_PIECE,
            show_progress=show,
        )
    make = trainers.WordPieceTrainer if options.tokenizer_type == "wordpiece" else trainers.BpeTrainer
    marks = {"continuing_subword_prefix": kind.prefix} if kind.prefix else {}
    marks |= {"end_of_word_suffix": kind.suffix} if kind.suffix else {}
    return make(
        vocab_size=size,
        min_frequency=options.min_frequency,
        # Special to the trainer alone, which gives such tokens their ids in this order.
        special_tokens=[*special.first, *alphabet.characters, *alphabet.marked],
        initial_alphabet=list(alphabet.characters),
        limit_alphabet=len(alphabet.characters),
        show_progress=show,
        **marks,
    )


def _append_last(tokenizer: Tokenizer, special: SpecialTokens) -> None:
    from tokenizers import AddedToken

    # As RoBERTa's: the space before a mask belongs to the token that it stands for.
    tokens = [AddedToken(token, lstrip=token == "<mask>", normalized=False) for token in special.last]
    tokenizer.add_special_tokens(tokens)


def _byte_level_bpe(options: TokenizerOptions, unknown: str | None) -> Tokenizer:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    # Offsets that include the space before a word, so that every character belongs to a token.
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return tokenizer


def _bpe(options: TokenizerOptions, unknown: str | None) -> Tokenizer:
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

    tokenizer = Tokenizer(models.BPE(unk_token=unknown, end_of_word_suffix=END_OF_WORD))
    lower = [normalizers.Lowercase()] if options.lowercase else []
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), *lower])
    # Words end at white space only: the mark then says where a space was, and text comes back as it was.
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.decoder = decoders.BPEDecoder(suffix=END_OF_WORD)
    return tokenizer


def _wordpiece(options: TokenizerOptions, unknown: str | None) -> Tokenizer:
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

    tokenizer = Tokenizer(models.WordPiece(unk_token=unknown, continuing_subword_prefix=CONTINUED))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=options.lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix=CONTINUED, cleanup=False)
    return tokenizer


def _unigram(options: TokenizerOptions, unknown: str | None) -> Tokenizer:
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

    tokenizer = Tokenizer(models.Unigram())
    lower = [normalizers.Lowercase()] if options.lowercase else []
    spaces = normalizers.Replace(Regex(r"\s+"), " ")
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), *lower, spaces, normalizers.Strip()])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    return tokenizer


KINDS: dict[str, TokenizerKind] = {
    "byte_level_bpe": TokenizerKind(_byte_level_bpe),
    "bpe": TokenizerKind(_bpe, suffix=END_OF_WORD),
    "wordpiece": TokenizerKind(_wordpiece, prefix=CONTINUED),
    "unigram": TokenizerKind(_unigram),
}
