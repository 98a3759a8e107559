"""The tokens of a sequence as text: one by one, with white space visible and trained tokens marked.

Tokens are turned back into characters one by one, so that a mask is shown exactly as training sees it. A
character that is split over several tokens (an emoji in a byte-level vocabulary) is shown whole, at its first
trained token or else at its first token; the other tokens keep an empty text, so counting the entries still
counts tokens. Which sequences are shown is the business of ``mask_view``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from hf_align.types import TokenizedRow

REPLACEMENT = "\ufffd"
_LONGEST_JOIN = 16
"""Tokens tried to complete one character. Four bytes need four; chains of shared bytes need more."""

_TRAINED_ON, _TRAINED_OFF = "⟦", "⟧"
_ANSI_TRAINED, _ANSI_OTHER, _ANSI_RESET = "\x1b[1;36m", "\x1b[2m", "\x1b[0m"

# Controls, direction overrides, invisible spaces and lone surrogates: shown by code, never sent raw.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]"
)
_WHITESPACE = re.compile(r"[ \t\n]")
_MARKS = {" ": "·", "\t": "→\t", "\n": "↵\n"}


def token_texts(input_ids: Sequence[int], tokenizer: PreTrainedTokenizerBase) -> list[tuple[int, str]]:
    """The row cut at character borders: ``(number of tokens, their text)`` for each piece, in order."""
    ids = [int(token) for token in input_ids]
    pieces: list[tuple[int, str]] = []
    start = context = 0
    while start < len(ids):
        text = alone = _decode_after(ids, context, start, start + 1, tokenizer)
        stop = start + 1
        while text.endswith(REPLACEMENT) and stop < min(len(ids), start + _LONGEST_JOIN):
            stop += 1
            text = _decode_after(ids, context, start, stop, tokenizer)
        broken = REPLACEMENT in text  # bytes that no later token completes, or U+FFFD itself
        if broken:
            stop, text = start + 1, alone
        if not text and stop == start + 1:
            text = str(tokenizer.convert_ids_to_tokens(ids[start]))
        pieces.append((stop - start, text))
        # Decoders merge broken bytes with what follows: such a piece is no context for the next.
        context, start = (stop if broken else start), stop
    return pieces


def _decode_after(
    ids: list[int], context: int, start: int, stop: int, tokenizer: PreTrainedTokenizerBase
) -> str:
    """The text that ids[start:stop] add after ids[context:start]; alone, decoders drop its first space."""

    def decode(first: int, last: int) -> str:
        return str(
            tokenizer.decode(ids[first:last], skip_special_tokens=False, clean_up_tokenization_spaces=False)
        )

    if context == start:
        return decode(start, stop)
    before, whole = decode(context, start), decode(context, stop)
    return whole[len(before) :] if whole.startswith(before) else decode(start, stop)


def marked_tokens(row: TokenizedRow, tokenizer: PreTrainedTokenizerBase) -> list[list[Any]]:
    """``[text, is_target]`` for each token of a sequence."""
    targets = [bool(target) for target in row.target_mask]
    tokens: list[list[Any]] = []
    for length, text in token_texts(list(row.input_ids), tokenizer):
        flags = targets[len(tokens) : len(tokens) + length]
        shown = flags.index(True) if True in flags else 0
        tokens += [[text if place == shown else "", flag] for place, flag in enumerate(flags)]
    return tokens


def visible(text: str) -> str:
    """``text`` with spaces as ``·``, line ends as ``↵`` (and a line break), and unsafe characters by code."""
    return _WHITESPACE.sub(lambda match: _MARKS[match[0]], _safe(text))


def _safe(text: str) -> str:
    return _UNSAFE.sub(lambda match: f"⟨U+{ord(match[0]):04X}⟩", text.replace("\r", "␍"))


def tokens_terminal(tokens: Iterable[Sequence[Any]], *, color: bool = False) -> str:
    """Marked tokens as text, the trained ones in colour, or between ⟦ and ⟧ where ``color`` is False."""
    lines = []
    for trained, text in _runs(tokens):
        shown = visible(text)
        if color:
            # Colour each line by itself: pagers and some terminals reset it at a line end.
            style = _ANSI_TRAINED if trained else _ANSI_OTHER
            shown = "\n".join(f"{style}{line}{_ANSI_RESET}" if line else "" for line in shown.split("\n"))
        elif trained:
            # The closing bracket stands before a final line break, where the eye looks for it.
            body, end = (shown[:-1], "\n") if shown.endswith("\n") else (shown, "")
            shown = f"{_TRAINED_ON}{body}{_TRAINED_OFF}{end}"
        lines.append(shown)
    return "".join(lines)


def _runs(tokens: Iterable[Sequence[Any]]) -> list[tuple[bool, str]]:
    """Neighbouring tokens with the same mask, joined."""
    runs: list[tuple[bool, str]] = []
    for text, trained in tokens:
        if runs and runs[-1][0] == bool(trained):
            runs[-1] = (runs[-1][0], runs[-1][1] + str(text))
        else:
            runs.append((bool(trained), str(text)))
    return runs


def tokens_html(tokens: Iterable[Sequence[Any]]) -> Markup:
    """The tokens of a mask sample as HTML: one ``<mark>`` for each trained character piece, the rest plain.

    ``data-tokens`` on a mark says how many trained tokens it stands for, where that is not one.
    """
    pieces: list[tuple[bool, str, int]] = []
    for text, trained in tokens:
        same = pieces and pieces[-1][0] == bool(trained)
        # An empty trained text belongs to the character before it, or to the one that follows.
        if same and (not trained or not text or not pieces[-1][1]):
            flag, before, length = pieces[-1]
            pieces[-1] = (flag, before + str(text), length + 1)
        else:
            pieces.append((bool(trained), str(text), 1))
    parts = []
    for trained, text, length in pieces:
        shown = visible_html(text)
        if trained:
            several = Markup(' data-tokens="{0}" title="{0} tokens"').format(length) if length > 1 else ""
            shown = Markup("<mark{}>{}</mark>").format(several, shown)
        parts.append(shown)
    return Markup("").join(parts)


def visible_html(text: str) -> Markup:
    """``visible`` as HTML: the stand-ins for whitespace are dimmed, and a line may break after them."""
    parts = []
    for part in re.split(r"([ \t\n])", _safe(text)):
        if part in _MARKS:
            after = Markup("<wbr>") if part == " " else part.strip(" ")
            parts.append(Markup("<i>{}</i>{}").format(_MARKS[part].rstrip(), after))
        else:
            parts.append(Markup.escape(part))
    return Markup("").join(parts)
