"""New entries of WordPiece and Unigram vocabularies: ids behind the old ones, each of them used."""

from __future__ import annotations

import pytest
from helpers.tiny_corpus import CHINESE, ENGLISH

from hf_align.tokenization.extend_entries import add_entries
from hf_align.tokenization.recipe import ExtendOptions, TokenizerOptions
from hf_align.tokenization.train import train_tokenizer


@pytest.mark.parametrize("kind", ["wordpiece", "unigram"])
def test_entries_follow_the_old_ones_and_are_used(kind: str) -> None:
    few = {"extra_ids": 3} if kind == "unigram" else {}
    options = TokenizerOptions(tokenizer_type=kind, vocab_size=400, **few)
    base = train_tokenizer(lambda: ENGLISH, options, show_progress=False)
    state, tokens = add_entries(
        base.backend_tokenizer,
        lambda: CHINESE,
        ExtendOptions(extend="base", new_tokens=20),
        first_id=len(base),
        min_frequency=1,
        show_progress=False,
    )
    assert 0 < len(tokens) <= 20
    vocabulary = state["model"]["vocab"]
    placed = (
        vocabulary if isinstance(vocabulary, dict) else {entry[0]: i for i, entry in enumerate(vocabulary)}
    )
    assert [placed[token.token] for token in tokens] == list(range(len(base), len(base) + len(tokens)))
    assert not {token.token for token in tokens} & set(base.get_vocab())
    text = "".join(CHINESE)
    assert all(token.token.removeprefix("##").lstrip("▁") in text for token in tokens)
    assert all(0 <= piece < len(base) for token in tokens for piece in token.pieces)
