"""The characters of a text as the model of a tokenizer meets them, in an order that no run changes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokenizers import Tokenizer


@dataclass(frozen=True)
class Alphabet:
    """``characters``: by code point. ``marked``: those that occur inside a word, with the mark in front, and
    those that occur at its end, with the mark behind. ``dropped``: characters beyond the limit."""

    characters: tuple[str, ...]
    marked: tuple[str, ...]
    dropped: int

    def __len__(self) -> int:
        """Tokens that it takes."""
        return len(self.characters) + len(self.marked)


def read_alphabet(
    texts: Iterable[str], tokenizer: Tokenizer, *, limit: int | None, prefix: str, suffix: str
) -> Alphabet:
    """The ``limit`` most frequent characters of the normalised texts; of equally frequent ones the first.

    ``prefix``: what marks a character that does not begin a word; ``suffix``: one that ends it. Either may be
    empty. Takes memory in proportion to the number of different words.
    """
    words: Counter[str] = Counter()
    for text in texts:
        normalized = tokenizer.normalizer.normalize_str(text) if tokenizer.normalizer else text
        words.update(word for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(normalized))
    counts: Counter[str] = Counter()
    for word, count in words.items():
        for character in word:
            counts[character] += count
    ordered = sorted(counts, key=lambda character: (-counts[character], character))
    kept = set(ordered[:limit])
    marked = set()
    for word in words:
        if prefix:
            marked |= {prefix + character for character in word[1:] if character in kept}
        if suffix and word[-1] in kept:
            marked.add(word[-1] + suffix)
    return Alphabet(tuple(sorted(kept)), tuple(sorted(marked)), len(ordered) - len(kept))


Texts = Callable[[], Iterable[str]]


LONGEST_TOKEN = 16
"""Characters of the longest new token: beyond that, a token is a phrase of its corpus."""


def is_byte_level(state: dict[str, Any]) -> bool:
    """Whether a tokenizer, in the form of tokenizer.json, writes bytes as letters."""
    return "ByteLevel" in json.dumps([state["pre_tokenizer"], state["decoder"]])


def readable(token: str, *, byte_level: bool) -> bytes:
    """The UTF-8 text of a token, marks of word borders as spaces; it may begin inside a character."""
    if byte_level:
        values = byte_values()
        return bytes(values[letter] for letter in token if letter in values)
    return token.replace("▁", " ").encode()


def byte_values() -> dict[str, int]:
    """The byte that each letter of a byte-level vocabulary stands for (GPT-2's table)."""
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in visible]
    return {chr(byte): byte for byte in visible} | {chr(256 + i): byte for i, byte in enumerate(hidden)}
