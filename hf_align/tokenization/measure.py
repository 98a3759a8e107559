"""What a tokenizer does to text that it was not trained on: compression, losses, and which tokens it uses.

Metrics are counted per source, per value of the recipe's column, and per script; counts are kept, not ratios,
so that any of them can be added.
"""

from __future__ import annotations

import functools
import math
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hf_align.tokenization.corpus import Text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_TOGETHER = 64
_MOST_POINTS = 400
LONGEST_SAMPLE = 400
_SHORTEST_SAMPLE = 60
_SCRIPTS = {"CJK": "Chinese (Han)", "HIRAGANA": "Japanese (kana)", "KATAKANA": "Japanese (kana)"}


@dataclass
class Counts:
    """``words`` are what white space separates. ``unknown``: unknown tokens, ``lost``: the characters under
    them. ``exact``: texts that decoding gives back as they were; ``complete``: white space aside."""

    texts: int = 0
    characters: int = 0
    bytes: int = 0
    words: int = 0
    tokens: int = 0
    unknown: int = 0
    lost: int = 0
    exact: int = 0
    complete: int = 0

    def add(self, other: Counts) -> None:
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)


@dataclass
class TokenCounts:
    """Counts in all and by source, column value and script; ``frequencies``: how often each id was used."""

    total: Counts = field(default_factory=Counts)
    by: dict[str, dict[str, Counts]] = field(
        default_factory=lambda: {"source": {}, "column": {}, "script": {}}
    )
    frequencies: Counter[int] = field(default_factory=Counter)


def measure(
    tokenizers: Sequence[PreTrainedTokenizerBase], texts: Iterable[Text], *, show_progress: bool = True
) -> tuple[list[TokenCounts], list[str]]:
    """The metrics of each tokenizer on the same texts, read once, and some of the texts to show.

    Special tokens are not put around the texts. The texts to show are the first of every source, column
    value and script that are long enough, cut.
    """
    from tqdm.auto import tqdm

    from hf_align.data.tokenizing import with_whole_offsets

    whole = [with_whole_offsets(tokenizer) for tokenizer in tokenizers]
    found = [TokenCounts() for _ in tokenizers]
    samples: dict[tuple[str, str, str], list[str]] = {}
    bar = tqdm(desc="measuring", unit=" texts", leave=False, disable=None if show_progress else True)
    with bar:
        for batch in _batches(texts):
            for tokenizer, measured in zip(whole, found, strict=True):
                _count(tokenizer, batch, measured)
            for text in batch:
                kept = samples.setdefault((text.source, text.group, script_of(text.text)), [])
                if len(kept) < _TOGETHER and len(text.text) >= _SHORTEST_SAMPLE:
                    kept.append(text.text)
            bar.update(len(batch))
    return found, list(_in_turn(samples.values()))


def _in_turn(lists: Iterable[list[str]]) -> Iterator[str]:
    """The first of each list, then the second of each, …, cut at a space where they are long."""
    waiting = [iter(items) for items in lists]
    while waiting:
        for items in [*waiting]:
            text = next(items, None)
            if text is None:
                waiting.remove(items)
                continue
            if len(text) > LONGEST_SAMPLE:
                space = text.rfind(" ", LONGEST_SAMPLE // 2, LONGEST_SAMPLE)
                text = text[: space if space > 0 else LONGEST_SAMPLE]
            yield text


def _batches(texts: Iterable[Text]) -> Iterator[list[Text]]:
    batch: list[Text] = []
    for text in texts:
        batch.append(text)
        if len(batch) == _TOGETHER:
            yield batch
            batch = []
    if batch:
        yield batch


def _count(tokenizer: PreTrainedTokenizerBase, batch: Sequence[Text], measured: TokenCounts) -> None:
    encoded = tokenizer(
        [text.text for text in batch], add_special_tokens=False, return_offsets_mapping=True, verbose=False
    )
    decoded = tokenizer.batch_decode(encoded["input_ids"], clean_up_tokenization_spaces=False)
    for text, ids, offsets, back in zip(
        batch, encoded["input_ids"], encoded["offset_mapping"], decoded, strict=True
    ):
        unknown = [place for place, token in enumerate(ids) if token == tokenizer.unk_token_id]
        counts = Counts(
            texts=1,
            characters=len(text.text),
            bytes=len(text.text.encode()),
            words=len(text.text.split()),
            tokens=len(ids),
            unknown=len(unknown),
            lost=sum(offsets[place][1] - offsets[place][0] for place in unknown),
            exact=int(back == text.text),
            complete=int("".join(back.split()) == "".join(text.text.split())),
        )
        measured.total.add(counts)
        names = {"source": text.source, "column": text.group, "script": script_of(text.text)}
        for key, name in names.items():
            if name:
                measured.by[key].setdefault(name, Counts()).add(counts)
        measured.frequencies.update(ids)


@functools.lru_cache(maxsize=1 << 16)
def _script(character: str) -> str:
    if not character.isalpha():
        return ""
    name = unicodedata.name(character, "").partition(" ")[0]
    return _SCRIPTS.get(name, name.capitalize())


def script_of(text: str) -> str:
    """The script of a text by the names of its letters: ``Latin``, ``Chinese (Han)``; empty without any.

    Latin words, and code, stand in texts of every script: another one that has a fifth of the letters counts.
    """
    counts = Counter(script for character in text if (script := _script(character)))
    letters = counts.total()
    latin = counts.pop("Latin", 0)
    if counts:
        script, count = counts.most_common(1)[0]
        if count >= letters / 5 or not latin:
            return script
    return "Latin" if latin else ""


def figures(tokenizer: PreTrainedTokenizerBase, measured: TokenCounts, *, name: str) -> dict[str, Any]:
    """What the report shows, in types that JSON knows.

    ``entropy``: of the token frequencies, in bits per token; ``bits_per_character``: what a model that knew
    nothing but these frequencies would need. ``points``: (rank, uses) of the sorted frequencies, thinned.
    """
    special = set(tokenizer.all_special_ids)
    total = sum(measured.frequencies.values())
    shares = [count / total for count in measured.frequencies.values()]
    entropy = -sum(share * math.log2(share) for share in shares)
    used = len(measured.frequencies.keys() - special)
    return {
        "name": name,
        "kind": type(tokenizer.backend_tokenizer.model).__name__,
        "vocab_size": len(tokenizer),
        "special_tokens": len(special),
        "used": used,
        "used_share": used / max(1, len(tokenizer) - len(special)),
        "entropy": entropy,
        "bits_per_character": entropy * total / max(1, measured.total.characters),
        "total": vars(measured.total),
        "by": {
            key: {group: vars(counts) for group, counts in groups.items()}
            for key, groups in measured.by.items()
        },
        "points": _points(sorted(measured.frequencies.values(), reverse=True)),
    }


def _points(counts: Sequence[int]) -> list[tuple[int, int]]:
    """(rank, count), evenly spaced on a logarithmic axis."""
    if not counts:
        return []
    step = math.log(max(2, len(counts))) / _MOST_POINTS
    ranks = sorted({min(len(counts), round(math.exp(step * i))) for i in range(_MOST_POINTS + 1)})
    return [(rank, counts[rank - 1]) for rank in ranks]


def segmentation(tokenizer: PreTrainedTokenizerBase, text: str) -> list[tuple[str, int, bool]]:
    """A text cut where its tokens begin: (the characters, how many tokens begin there, whether unknown).

    Tokens that share a character, as the bytes of one do, are one piece. What no token covers is a piece with
    none. The pieces joined are the text.
    """
    from hf_align.data.tokenizing import with_whole_offsets

    encoded = with_whole_offsets(tokenizer)(
        text, add_special_tokens=False, return_offsets_mapping=True, verbose=False
    )
    pieces: list[list[Any]] = []
    reached = 0
    for token, (start, stop) in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True):
        if pieces and (start < reached or stop <= reached):
            pieces[-1][0] = text[reached - len(pieces[-1][0]) : max(stop, reached)]
            pieces[-1][1] += 1
            pieces[-1][2] |= token == tokenizer.unk_token_id
        else:
            if start > reached:
                pieces.append([text[reached:start], 0, False])
            pieces.append([text[start:stop], 1, token == tokenizer.unk_token_id])
        reached = max(reached, stop)
    if reached < len(text):
        pieces.append([text[reached:], 0, False])
    return [(piece, count, unknown) for piece, count, unknown in pieces]
