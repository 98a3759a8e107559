"""The characters of a text as the model of a tokenizer meets them, in an order that no run changes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

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
