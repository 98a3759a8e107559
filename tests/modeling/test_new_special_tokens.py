"""Special tokens beside those of a tokenizer: their ids, and the pieces that their rows start from."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.tiny_checkpoint import tiny_tokenizer
from transformers import AutoTokenizer

from hf_align.errors import UserError
from hf_align.modeling.new_special_tokens import add_special_tokens


def test_new_ids_follow_and_are_loaded_again(tmp_path: Path) -> None:
    before, tokenizer = tiny_tokenizer(), tiny_tokenizer()
    old = len(tokenizer)
    extension = add_special_tokens(tokenizer, ["<tool>", "<|im_end|>", "</tool>", "<tool>"])
    assert (extension.first_id, [token.token for token in extension.tokens]) == (old, ["<tool>", "</tool>"])
    assert extension.tokens[0].pieces == tuple(before("<tool>").input_ids)
    assert len(tokenizer) == old + 2 and tokenizer.eos_token == before.eos_token
    tokenizer.save_pretrained(tmp_path)
    for found in (tokenizer, AutoTokenizer.from_pretrained(tmp_path)):
        assert found("a<tool>b").input_ids == [*before("a").input_ids, old, *before("b").input_ids]
        assert {"<tool>", "</tool>"} <= set(found.all_special_tokens)
        assert found("ordinary text").input_ids == before("ordinary text").input_ids


def test_nothing_to_add() -> None:
    tokenizer = tiny_tokenizer()
    assert not add_special_tokens(tokenizer, []).tokens
    assert len(tokenizer) == len(tiny_tokenizer())


def test_ids_that_do_not_follow_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = tiny_tokenizer()
    vocabulary = tokenizer.get_vocab() | {"far": 900}
    monkeypatch.setattr(tokenizer, "get_vocab", lambda: vocabulary)
    with pytest.raises(UserError, match="expected ids right behind it"):
        add_special_tokens(tokenizer, ["<tool>"])
