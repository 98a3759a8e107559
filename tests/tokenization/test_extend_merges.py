"""New merges behind those of a BPE: by hand, and none that would change how old text is written."""

from __future__ import annotations

import json

from helpers.tiny_corpus import CHINESE
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from hf_align.tokenization.extend import extend_tokenizer
from hf_align.tokenization.recipe import ExtendOptions


def _extend(base, texts=CHINESE, **options):
    options = ExtendOptions(extend="base", **{"new_tokens": 150} | options)
    return extend_tokenizer(base, lambda: texts, options, show_progress=False)


def test_by_hand():
    """Base: a, b, c and ab. In "cab cab cab" the base writes c ab; the one new pair is (c, ab)."""
    base = _hand_base()
    extension = _extend(base, ["cab cab cab a"], new_tokens_from="all", new_tokens=5)
    assert [(token.token, token.pieces) for token in extension.tokens] == [("cab", (2, 3))]
    state = json.loads(extension.tokenizer.backend_tokenizer.to_str())
    assert state["model"]["merges"] == [["a", "b"], ["c", "ab"]]
    assert extension.tokenizer("cab ab c").input_ids == [4, 3, 2]


def test_a_merge_that_would_give_an_old_token_is_left_out():
    """The base reaches "abc" only from ab + c. A merge a + bc -> abc would change how old text is written."""
    vocabulary = {"a": 0, "b": 1, "c": 2, "ab": 3, "abc": 4, "bc": 5, "x": 6}
    merges = [("b", "c"), ("a", "b"), ("ab", "c")]  # bc comes first, so ab and abc never arise from "abc"
    base = _wrapped(models.BPE(vocabulary, merges))
    assert base("abc").input_ids == [0, 5]
    extension = _extend(base, ["abc abc abcx abcx"], new_tokens_from="all", new_tokens=5)
    assert base("abc").input_ids == extension.tokenizer("abc").input_ids
    assert "abc" not in [token.token for token in extension.tokens]


def _wrapped(model):
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def _hand_base():
    return _wrapped(models.BPE({"a": 0, "b": 1, "c": 2, "ab": 3}, [("a", "b")]))
