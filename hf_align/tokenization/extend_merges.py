"""Extends a BPE vocabulary by going on with its training, on the new text cut by the old merges.

Each new token joins two tokens that are there already, and its merge stands behind all others. BPE applies
merges in their order, so the old ones come out as before, and the new ones join what they leave: every new
token can be reached, and a text in which no new pair occurs keeps its ids. A merge whose result the old
vocabulary has is left out, since it would let old tokens arise, and old merges apply, where they did not.

The library's trainer starts from characters, not from tokens. So each token of the cut text is written as one
character of its own, and the trainer's merges are read back as merges of tokens.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from hf_align.tokenization.alphabet import LONGEST_TOKEN, Texts, is_byte_level, readable
from hf_align.tokenization.corpus import counted
from hf_align.types.tokens import NewToken

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from hf_align.tokenization.recipe import ExtendOptions

_FIRST_CODE = 0x10000
"""Code points from here on stand for tokens: there are a million, and none has a meaning to the trainer."""
_BORDER = "\n"
_REPEATS = 1000
_SPARE = 2
"""Merges learned for each one wanted: some are left out."""


def add_merges(
    backend: Tokenizer,
    texts: Texts,
    options: ExtendOptions,
    *,
    first_id: int,
    min_frequency: int,
    show_progress: bool,
) -> tuple[dict[str, Any], list[NewToken]]:
    """The tokenizer with new merges, in the form of tokenizer.json, and its new tokens in the order of ids.

    Where the vocabulary is of characters, those that it lacks come first, up to half of what is added.
    """
    from tokenizers import Tokenizer

    state = json.loads(backend.to_str())
    model = state["model"]
    byte_level = is_byte_level(state)
    read = counted(texts(), show_progress=show_progress)
    words = _words(backend, read, only_new=options.new_tokens_from == "non_ascii", byte_level=byte_level)
    tokens: list[NewToken] = []
    pieces = {token: (number,) for token, number in backend.get_vocab(with_added_tokens=True).items()}
    prefix = model["continuing_subword_prefix"] or ""

    def add(token: str, made_of: tuple[int, ...]) -> None:
        model["vocab"][token] = first_id + len(tokens)
        pieces[token] = made_of
        tokens.append(NewToken(token, made_of))

    if not byte_level:
        suffix = model["end_of_word_suffix"] or ""
        lacking = [
            (symbol, character)
            for symbol, character in _lacking(words, model["vocab"], prefix, suffix, min_frequency)
            if options.new_tokens_from == "all" or not character.isascii()
        ]
        for symbol, character in lacking[: options.new_tokens // 2]:
            add(symbol, _old_pieces(backend, character, model["unk_token"]))
    cut = _cut_words(Tokenizer.from_str(json.dumps(state)), words, model)
    for parts in _learned(cut, options.new_tokens - len(tokens), min_frequency, show_progress):
        left, right = (_joined(part, prefix) for part in parts)
        token = left + right.removeprefix(prefix)
        if len(tokens) == options.new_tokens:
            break
        if left not in pieces or right not in pieces or token in pieces:
            continue
        text = readable(token, byte_level=byte_level)
        if len(text.decode("utf-8", "ignore")) > LONGEST_TOKEN:
            continue
        if options.new_tokens_from == "non_ascii" and text.isascii():
            continue
        model["merges"].append([left, right])
        add(token, pieces[left] + pieces[right])
    return state, tokens


def _words(backend: Tokenizer, texts: Iterable[str], *, only_new: bool, byte_level: bool) -> Counter[str]:
    """The words of the normalised texts with their counts; ``only_new``: those with other than ASCII text."""
    from tokenizers import pre_tokenizers

    split = backend.pre_tokenizer
    if split is None:  # as Llama 2's: a text is one word, which would let tokens reach over several
        split = pre_tokenizers.Sequence(
            [pre_tokenizers.Split("▁", "merged_with_next"), pre_tokenizers.Punctuation("isolated")]
        )
    counts: Counter[str] = Counter()
    for text in texts:
        if only_new and text.isascii():
            continue
        normalized = backend.normalizer.normalize_str(text) if backend.normalizer else text
        counts.update(word for word, _ in split.pre_tokenize_str(normalized))
    if only_new:
        for word in [word for word in counts if readable(word, byte_level=byte_level).isascii()]:
            del counts[word]
    return counts


def _lacking(
    words: Counter[str], vocabulary: dict[str, int], prefix: str, suffix: str, min_frequency: int
) -> list[tuple[str, str]]:
    """(form, character) for characters that occur in a form without a token, the most frequent first."""
    counts: Counter[tuple[str, str]] = Counter()
    for word, count in words.items():
        for place, character in enumerate(word):
            symbol = (prefix if place else "") + character + (suffix if place == len(word) - 1 else "")
            if symbol not in vocabulary:
                counts[symbol, character] += count
    frequent = [item for item, count in counts.items() if count >= min_frequency]
    return sorted(frequent, key=lambda item: (-counts[item], item))


def _old_pieces(backend: Tokenizer, text: str, unknown: str | None) -> tuple[int, ...]:
    return tuple(token.id for token in backend.model.tokenize(text) if token.value != unknown)


def _cut_words(
    tokenizer: Tokenizer, words: Counter[str], model: dict[str, Any]
) -> list[tuple[list[str], int]]:
    """(tokens, count) of the words, cut again at tokens that nothing may be joined with."""
    # Bytes of a character outside the vocabulary have the form <0xE4>, and are put together by the decoder.
    alone = {f"<0x{byte:02X}>" for byte in range(256)} if model["byte_fallback"] else set()
    alone.add(model["unk_token"])
    found = []
    for word, count in sorted(words.items()):
        run: list[str] = []
        for token in [*(token.value for token in tokenizer.model.tokenize(word)), None]:
            if token is not None and token not in alone:
                run.append(token)
                continue
            if len(run) > 1:
                found.append((run, count))
            run = []
    return found


def _learned(
    cut: list[tuple[list[str], int]], wanted: int, min_frequency: int, show_progress: bool
) -> Iterator[tuple[list[str], list[str]]]:
    """Merges in the order in which BPE training finds them, each side as the old tokens in it."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    alphabet = sorted({token for tokens, _ in cut for token in tokens})
    if not alphabet or wanted < 1:
        return
    code = {token: chr(_FIRST_CODE + place) for place, token in enumerate(alphabet)}
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.CharDelimiterSplit(_BORDER)
    trainer = trainers.BpeTrainer(
        vocab_size=len(alphabet) + _SPARE * wanted, min_frequency=min_frequency, show_progress=show_progress
    )

    def lines() -> Iterator[str]:
        for tokens, count in cut:
            word = "".join(code[token] for token in tokens)
            for start in range(0, count, _REPEATS):
                yield _BORDER.join([word] * min(_REPEATS, count - start))

    trained.train_from_iterator(lines(), trainer)

    def tokens_of(coded: str) -> list[str]:
        return [alphabet[ord(character) - _FIRST_CODE] for character in coded]

    for left, right in json.loads(trained.to_str())["model"]["merges"]:
        yield tokens_of(left), tokens_of(right)


def _joined(tokens: list[str], prefix: str) -> str:
    """The token that tokens make together; all but the first lose the mark of a continued word."""
    return tokens[0] + "".join(token.removeprefix(prefix) for token in tokens[1:])
