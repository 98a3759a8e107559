"""Where words begin, read from how a vocabulary spells its tokens.

Four ways are in use, told apart by the mark that most tokens of a vocabulary carry: WordPiece marks what
continues a word (``##ing``), byte-level BPE and SentencePiece mark what begins one (``Ġword``, ``▁word``),
and BPE after Sennrich marks what ends one (``word</w>``). As in BERT, punctuation is a word of its own, and
so is each Chinese or Japanese character, since those scripts put no blanks between words.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from hf_align.errors import UserError

_CONTINUES, _BYTES_BEGIN, _BEGINS, _ENDS = "##", "Ġ", "▁", "</w>"
_BYTE_NEWLINES = ("Ċ", "č", "ĉ")
_FALLBACK_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
_BETWEEN_SENTENCES = re.compile(r"[.!?…]+[\"'”’)\]]*\s+|[。！？]+[\"”’）」』]*\s*|\n+")
_SENTENCE_END = re.compile(r"(?:[.!?。！？…][\"'”’)\]」』]*|\n)\s*$")


def word_mark(tokens: Iterable[str | None]) -> str:
    """The mark of a vocabulary: ``##``, ``Ġ``, ``▁`` or ``</w>``. Raises UserError where no token has one."""
    counts = dict.fromkeys((_CONTINUES, _BYTES_BEGIN, _BEGINS, _ENDS), 0)
    for token in tokens:
        if token is None:
            continue
        for mark in (_CONTINUES, _BYTES_BEGIN, _BEGINS):
            counts[mark] += token.startswith(mark)
        counts[_ENDS] += token.endswith(_ENDS)
    mark = max(counts, key=lambda name: counts[name])
    if not counts[mark]:
        raise UserError(
            "whole words were asked for, but the tokenizer's vocabulary does not show where words begin: no "
            "token begins with '##' (WordPiece), 'Ġ' (byte-level BPE) or '▁' (SentencePiece) or ends with "
            "'</w>' (BPE). Use another tokenizer, or switch whole words off"
        )
    return mark


def word_borders(
    tokens: Sequence[str | None], special: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """((V,) tokens that begin a word, (V,) tokens after which one begins); special tokens do both."""
    mark = word_mark(token for token, is_special in zip(tokens, special, strict=True) if not is_special)
    texts = spelled_out(tokens, mark)
    begins, ends = special.copy(), special.copy()
    for id, (token, text) in enumerate(zip(tokens, texts, strict=True)):
        if token is None or special[id]:
            continue
        alone = _is_punctuation(text) or token.startswith(_BYTE_NEWLINES) or text.strip(" ").isspace()
        ends[id] |= alone or (mark == _ENDS and token.endswith(_ENDS)) or _is_without_blanks(text[-1:])
        if mark == _CONTINUES:
            begins[id] |= not token.startswith(_CONTINUES)
        elif mark == _BYTES_BEGIN:
            # Bytes E3 to E9 lead the UTF-8 form of U+3000 to U+9FFF; their stand-ins are the same characters.
            begins[id] |= alone or token.startswith(_BYTES_BEGIN) or "\xe3" <= token[0] <= "\xe9"
        else:
            begins[id] |= alone or token.startswith(_BEGINS) or _begins_without_blank(token)
    return begins, ends


def spelled_out(tokens: Sequence[str | None], mark: str | None = None) -> list[str]:
    """(V,) the text of each token, with blanks for marks, and nothing for an id that is not in use."""
    from tokenizers.decoders import ByteLevel

    mark = mark or _mark_or_none(tokens)
    if mark == _BYTES_BEGIN:
        decoder = ByteLevel()
        return [decoder.decode([token]) if token else "" for token in tokens]
    prefix, suffix = {_CONTINUES: ("##", None), _BEGINS: (None, None), _ENDS: (None, "</w>")}.get(
        mark or "", (None, None)
    )
    texts = []
    for token in tokens:
        text = token or ""
        text = text.removeprefix(prefix) if prefix else text
        text = text.removesuffix(suffix) if suffix else text
        texts.append(text.replace(_BEGINS, " ") if mark == _BEGINS else text)
    return texts


def _mark_or_none(tokens: Sequence[str | None]) -> str | None:
    try:
        return word_mark(tokens)
    except UserError:
        return None


def ends_sentence(text: str) -> bool:
    """Whether ``text`` closes a sentence: ``.``, ``!``, ``?``, their Chinese forms, or a line break."""
    return _SENTENCE_END.search(text) is not None


def split_sentences(text: str) -> list[str]:
    """The sentences of a text, by the same marks followed by a blank (none is needed after Chinese ones).

    Nothing is lost but blanks at the ends. Rule of thumb, not a parser: ``e.g. this`` is cut.
    """
    ends = [0, *(found.end() for found in _BETWEEN_SENTENCES.finditer(text)), len(text)]
    pieces = (text[start:end].strip() for start, end in pairwise(ends))
    return [piece for piece in pieces if piece]


def _is_punctuation(text: str) -> bool:
    """Whether there is something beside blanks, and all of it is punctuation or symbols.

    Part of a character's bytes is decoded as U+FFFD, which Unicode counts as a symbol; here it is not one.
    """
    chars = text.strip()
    return bool(chars) and all(char != "\ufffd" and unicodedata.category(char)[0] in "PS" for char in chars)


def _begins_without_blank(token: str) -> bool:
    """Whether a token begins with a character of a script without blanks, or with the first byte of one."""
    if found := _FALLBACK_BYTE.fullmatch(token):
        return 0xE3 <= int(found[1], 16) <= 0xE9
    return _is_without_blanks(token[0])


def _is_without_blanks(char: str) -> bool:
    """Whether ``char``, one or none, is of a script without blanks."""
    point = ord(char) if char else 0
    return (
        0x3000 <= point <= 0x30FF
        or 0x3400 <= point <= 0x9FFF
        or 0xF900 <= point <= 0xFAFF
        or 0x20000 <= point <= 0x3FFFF
    )
