"""Words, lines, paragraphs, sentences and a normal form of text, for every script.

A word is a run of letters, digits and marks, with apostrophes and hyphens inside; in scripts that are written
without spaces (Chinese, Japanese, Thai, Lao, Khmer, Burmese) every character is one. Word lists of libraries
would have to be downloaded and cut at least English only.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Callable

_WITHOUT_SPACES = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\U00020000-\U0003ffff"
)
_WORD = re.compile(
    rf"[{_WITHOUT_SPACES}]|(?:(?![{_WITHOUT_SPACES}])\w)+(?:['’\-](?:(?![{_WITHOUT_SPACES}])\w)+)*"
)
_ONE_WITHOUT_SPACES = re.compile(rf"[{_WITHOUT_SPACES}]")
_LINE = re.compile(r"[^\n]*[^\s][^\n]*")
_PARAGRAPH_BREAK = re.compile(r"\n[^\S\n]*\n\s*")
_SENTENCE_END = re.compile(r"[.!?…]+[\"'”’)\]]*(?=\s|$)|[。！？]+[”’」』）]*")
_NUMBER = re.compile(r"\d+")
_NO_WORD = re.compile(r"[^\w\s]|_")

TERMINAL = tuple(".!?。！？…\"'”’」』")
"""What a line of prose ends with."""
LANGUAGES_WITHOUT_SPACES = frozenset({"zh", "ja", "th", "lo", "km", "my", "yue", "wuu"})


def words(text: str) -> list[str]:
    """The words in order, as they are written."""
    return _WORD.findall(text)


def word_spans(text: str) -> list[tuple[int, int]]:
    """Where each of ``words`` begins and ends."""
    return [match.span() for match in _WORD.finditer(text)]


def lines(text: str) -> list[str]:
    """The lines that are not blank, without white space at their ends."""
    return [line.strip() for line in _LINE.findall(text)]


def paragraphs(text: str) -> list[str]:
    """Blocks between blank lines, without white space at their ends."""
    return [part for part in (part.strip() for part in _PARAGRAPH_BREAK.split(text)) if part]


def edit_lines(text: str, edit: Callable[[str], str | None]) -> str:
    """The text with ``edit`` of each line that is not blank; None takes the line out. Blank lines stay, at
    most one after another."""
    kept: list[str] = []
    for line in text.split("\n"):
        stripped = line.strip()
        if not stripped:
            if kept and kept[-1]:
                kept.append("")
            continue
        edited = edit(stripped)
        if edited is not None:
            kept.append(edited)
    return "\n".join(kept).strip()


def sentences(text: str) -> int:
    """How many sentences there are: ends of sentences, and one more for text behind the last end."""
    end, count = 0, 0
    for match in _SENTENCE_END.finditer(text):
        end, count = match.end(), count + 1
    return count + bool(text[end:].strip())


def spaceless_share(text: str) -> float:
    """The share of the characters, white space aside, that are of a script without spaces."""
    characters = sum(not character.isspace() for character in text)
    return len(_ONE_WITHOUT_SPACES.findall(text)) / characters if characters else 0.0


def normal_form(text: str) -> str:
    """Lower case, numbers as 0, no punctuation, single spaces, no accents: what duplicates are compared
    in."""
    text = _NO_WORD.sub(" ", _NUMBER.sub("0", text.lower()))
    if not text.isascii():
        decomposed = unicodedata.normalize("NFD", text)
        text = "".join(char for char in decomposed if unicodedata.category(char) != "Mn")
    return " ".join(text.split())


def digest(text: str, size: int = 16) -> bytes:
    """``size`` bytes of a hash of the text; the same on every machine."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=size).digest()
