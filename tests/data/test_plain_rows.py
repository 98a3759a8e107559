"""Token rows of plain texts, and of prompts with completions: ids, target masks, BOS and EOS."""

from __future__ import annotations

from typing import Any

import pytest
from helpers.chat_texts import TOKENIZERS, texts, token_bytes
from helpers.chat_tokenizers import byte_level_tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from hf_align.data.chat.rendering import make_encoder, prompt_ids, render_prompt
from hf_align.errors import UserError
from hf_align.types import Example, TokenizedRow


def _plain(tokenizer: PreTrainedTokenizerFast, **fields: str | None) -> tuple[list[str], list[str]]:
    return _plain_with(tokenizer, {}, **fields)


def _plain_with(
    tokenizer: PreTrainedTokenizerFast, options: dict[str, Any], **fields: str | None
) -> tuple[list[str], list[str]]:
    """(all tokens, target tokens) of a plain row."""
    row = make_encoder(tokenizer, **options).encode([Example("place", **fields)])[0]
    assert isinstance(row, TokenizedRow)
    tokens = tokenizer.convert_ids_to_tokens(row.input_ids)
    return tokens, [token for token, target in zip(tokens, row.target_mask, strict=True) if target]


def test_plain_rows_have_the_bos_that_the_tokenizer_adds_and_one_eos() -> None:
    without_bos, with_bos = TOKENIZERS["byte_level"], TOKENIZERS["sentencepiece"]
    body = without_bos.convert_ids_to_tokens(without_bos("Hello there")["input_ids"])
    tokens, targets = _plain(without_bos, text="Hello there")
    assert (tokens, targets) == ([*body, "</s>"], [*body[1:], "</s>"])
    tokens, targets = _plain(with_bos, text="Hello there")
    body = with_bos.convert_ids_to_tokens(with_bos("Hello there")["input_ids"])
    assert body[0] == "<s>"
    assert (tokens, targets) == ([*body, "</s>"], [*body[1:], "</s>"])
    # Neither token comes twice where the text has it already.
    tokens, _ = _plain(with_bos, text="<s>Hello there</s>")
    assert (tokens.count("<s>"), tokens.count("</s>")) == (1, 1)
    tokens, targets = _plain_with(with_bos, {"add_eos": False}, text="Hello there")
    assert (tokens, targets) == (body, body[1:])


def test_an_eos_that_the_tokenizer_adds_by_itself_is_left_to_add_eos() -> None:
    from tokenizers import processors

    tokenizer = byte_level_tokenizer()
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    assert tokenizer("Hi")["input_ids"][-1] == tokenizer.eos_token_id
    assert _plain_with(tokenizer, {"add_eos": False}, text="Hi")[0] == ["<s>", "H", "i"]
    assert _plain(tokenizer, text="Hi")[0] == ["<s>", "H", "i", "</s>"]
    assert (
        prompt_ids(tokenizer, Example("x", prompt="Hi", completion="a")) == tokenizer("Hi")["input_ids"][:-1]
    )
    assert prompt_ids(tokenizer, Example("x", prompt="", completion="a")) == [0]


def test_of_a_prompt_and_its_completion_the_completion_is_the_target() -> None:
    tokenizer = TOKENIZERS["byte_level"]
    for prompt, completion in (("Hello", " there"), ("there", " there"), ("天", "好😀"), ("a", "\n\n")):
        _, targets = _plain(tokenizer, prompt=prompt, completion=completion)
        assert tokenizer.convert_tokens_to_string(targets) == completion + "</s>"
    tokens, targets = _plain_with(tokenizer, {"train_on": "all"}, prompt="Hello ", completion="there")
    assert targets == tokens[1:]
    # A token that spans the boundary holds a part of the completion.
    assert tokenizer.tokenize("Hello") == ["Hello"]
    assert _plain(tokenizer, prompt="Hel", completion="lo") == (["Hello", "</s>"], ["</s>"])
    assert _plain(tokenizer, prompt="a Hel", completion="lo")[1] == ["Hello", "</s>"]


@settings(max_examples=100, deadline=None)
@given(prompt=texts | st.just(""), completion=texts)
def test_masks_of_random_completions(prompt: str, completion: str) -> None:
    tokenizer = TOKENIZERS["byte_level"]
    row = make_encoder(tokenizer, add_eos=False).encode([Example("p", prompt=prompt, completion=completion)])[
        0
    ]
    assert isinstance(row, TokenizedRow)
    ids = tokenizer(prompt + completion)["input_ids"]
    assert row.input_ids.tolist() == ids
    boundary = len(prompt.encode())
    ranges = token_bytes("byte_level", tokenizer, ids, prompt + completion)
    expected = [end > boundary for _, end in ranges]
    expected[0] = False
    assert row.target_mask.tolist() == expected


def test_add_eos_without_an_eos_token_is_explained() -> None:
    tokenizer = byte_level_tokenizer()
    tokenizer.eos_token = None
    with pytest.raises(UserError, match="add_eos"):
        make_encoder(tokenizer).encode([Example("x", text="a")])


def test_prompts_of_plain_rows() -> None:
    tokenizer = TOKENIZERS["sentencepiece"]
    completion = Example("x", prompt="Hello there", completion=" you")
    assert render_prompt(tokenizer, completion) == ("Hello there", " you")
    assert prompt_ids(tokenizer, completion) == tokenizer("Hello there")["input_ids"]
    assert render_prompt(tokenizer, Example("x", text="Hello")) == ("", "Hello")
