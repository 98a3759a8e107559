"""Token rows of conversations: ids, target masks, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers.chat_texts import TOKENIZERS, texts, token_bytes
from helpers.chat_tokenizers import FAMILIES, TAGGED, Written, byte_level_tokenizer, conversation
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from hf_align.data.chat.rendering import make_encoder, prompt_ids, render_prompt
from hf_align.data.reading.raw import MalformedRow
from hf_align.errors import UserError
from hf_align.types import Example, Message, TokenizedRow

turns = st.lists(texts, min_size=2, max_size=6).map(lambda found: found[: len(found) // 2 * 2])


def _tokenizer(kind: str, family: str) -> PreTrainedTokenizerFast:
    tokenizer = TOKENIZERS[kind]
    tokenizer.chat_template = FAMILIES[family][0]
    return tokenizer


def _encode(tokenizer: PreTrainedTokenizerFast, messages: list[Message], **options: Any) -> TokenizedRow:
    row = make_encoder(tokenizer, **options).encode([Example("place", messages=tuple(messages))])[0]
    assert isinstance(row, TokenizedRow), row
    return row


def _dictionaries(messages: list[Message]) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in messages]


def _expected_targets(
    kind: str, tokenizer: PreTrainedTokenizerFast, ids: list[int], written: Written
) -> list[bool]:
    text, spans, ends = written
    in_bytes = [(len(text[:start].encode()), len(text[:end].encode()), len(mark)) for (start, end), mark in
                zip(spans, ends, strict=True)]  # fmt: skip
    special = set(tokenizer.all_special_ids)
    return [
        any(
            # The token covers part of the answer, or is the token that ends the turn, or is the bare
            # word-start mark that opens the answer.
            (start < last and end > first)
            or (start == last and end == last + length and token in special)
            or (start == end and first <= start < last)
            for first, last, length in in_bytes
        )
        for token, (start, end) in zip(ids, token_bytes(kind, tokenizer, ids, text), strict=True)
    ]


@settings(max_examples=300, deadline=None)
@given(
    kind=st.sampled_from(sorted(TOKENIZERS)),
    family=st.sampled_from(sorted(FAMILIES)),
    turns=turns,
    system=st.none() | texts,
)
def test_ids_and_masks_of_random_conversations(
    kind: str, family: str, turns: list[str], system: str | None
) -> None:
    if kind.startswith("sentencepiece"):  # their spelling of these is ambiguous, which only this test minds
        turns = [turn.replace("▁", "_").replace("<0x", "<") for turn in turns]
        system = system and system.replace("▁", "_").replace("<0x", "<")
    tokenizer = _tokenizer(kind, family)
    messages = conversation(*turns, system=None if family == "gemma" else system)
    row = _encode(tokenizer, messages)
    ids = tokenizer.apply_chat_template(_dictionaries(messages), tokenize=True)["input_ids"]
    assert row.input_ids.dtype == np.int32
    assert row.input_ids.tolist() == ids
    expected = _expected_targets(kind, tokenizer, ids, FAMILIES[family][1](messages))
    expected[0] = False
    assert row.target_mask.tolist() == expected


@pytest.mark.parametrize("family", sorted(FAMILIES))
@pytest.mark.parametrize("kind", ["byte_level", "sentencepiece"])
def test_the_targets_read_as_the_answers_and_their_ends(kind: str, family: str) -> None:
    tokenizer = _tokenizer(kind, family)
    system = None if family == "gemma" else "Be brief. 请简短。"
    messages = conversation("What is 12 + 30?", "It is 42 😀.", "你好吗?", "我很好,谢谢。", system=system)
    row = _encode(tokenizer, messages)
    text, spans, ends = FAMILIES[family][1](messages)
    expected = "".join(text[start:end] + mark for (start, end), mark in zip(spans, ends, strict=True))
    decoded = tokenizer.decode(row.input_ids[row.target_mask], clean_up_tokenization_spaces=False)
    # Decoders of this kind drop the space at the start of a text.
    assert decoded == (expected.removeprefix(" ") if kind == "sentencepiece" else expected)


@pytest.mark.parametrize("family", sorted(TAGGED))
@pytest.mark.parametrize("kind", ["byte_level_whole_offsets", "sentencepiece"])
def test_masks_equal_those_of_generation_tags(kind: str, family: str) -> None:
    tokenizer = _tokenizer(kind, family)
    system = None if family == "gemma" else "You are helpful 天."
    messages = conversation("Hi", "Hello 😀 there", "And then?", "Nothing else happens.", system=system)
    row = _encode(tokenizer, messages)
    tagged = tokenizer.apply_chat_template(
        _dictionaries(messages),
        chat_template=TAGGED[family],
        tokenize=True,
        return_dict=True,
        return_assistant_tokens_mask=True,
    )
    assert row.input_ids.tolist() == tagged["input_ids"]
    assert row.target_mask.astype(int).tolist() == tagged["assistant_masks"]


def test_train_on_last_and_all() -> None:
    tokenizer = _tokenizer("byte_level", "chatml")
    messages = conversation("Hi", "Hello", "And?", "Fine")
    last = _encode(tokenizer, messages, train_on="last")
    assert tokenizer.decode(last.input_ids[last.target_mask]) == "Fine<|im_end|>"
    everything = _encode(tokenizer, messages, train_on="all")
    assert everything.target_mask.tolist() == [False] + [True] * (len(everything) - 1)


def test_pad_equal_to_eos_changes_no_mask() -> None:
    tokenizer = byte_level_tokenizer(FAMILIES["alpaca"][0])
    messages = conversation("Hi", "Hello")
    without = _encode(tokenizer, messages)
    tokenizer.pad_token = tokenizer.eos_token
    with_pad = _encode(tokenizer, messages)
    assert tokenizer.pad_token_id == tokenizer.eos_token_id
    assert with_pad.target_mask.tolist() == without.target_mask.tolist()
    assert with_pad.input_ids[-1] == tokenizer.eos_token_id
    assert with_pad.target_mask[-1]


def test_a_bos_in_the_template_is_the_only_one() -> None:
    tokenizer = _tokenizer("sentencepiece", "alpaca")
    row = _encode(tokenizer, conversation("Hi", "Hello"))
    assert tokenizer("x")["input_ids"][0] == tokenizer.bos_token_id  # it adds one by itself elsewhere
    assert row.input_ids.tolist().count(tokenizer.bos_token_id) == 1


def test_white_space_before_the_end_of_turn_is_a_target_and_text_after_it_is_not() -> None:
    tokenizer = byte_level_tokenizer(
        "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\\n<|im_end|>\\n' }}{% endfor %}"
    )
    row = _encode(tokenizer, conversation("Hi", "Hello"))
    assert tokenizer.decode(row.input_ids[row.target_mask]) == "Hello\n<|im_end|>"


def test_special_tokens_in_a_row_are_targets_up_to_eos() -> None:
    tokenizer = byte_level_tokenizer(
        "{% for m in messages %}{{ '<|im_start|>' + m['content'] }}"
        "{{ '<|eot_id|><|im_end|></s><|im_start|>' }}{% endfor %}"
    )
    row = _encode(tokenizer, conversation("Hi", "Hello"))
    assert tokenizer.decode(row.input_ids[row.target_mask]) == "Hello<|eot_id|><|im_end|></s>"
    tokenizer.chat_template = tokenizer.chat_template.replace("</s>", " </s>")
    row = _encode(tokenizer, conversation("Hi", "Hello"))
    assert tokenizer.decode(row.input_ids[row.target_mask]) == "Hello<|eot_id|>"


def test_a_bos_after_an_answer_does_not_end_it() -> None:
    tokenizer = byte_level_tokenizer("{% for m in messages %}{{ bos_token + m['content'] }}{% endfor %}")
    messages = conversation("Hi", "Hello", "And?", "Fine")
    with pytest.raises(UserError, match="no end-of-turn token"):
        _encode(tokenizer, messages)
    row = _encode(tokenizer, messages, require_end_of_turn=False)
    assert tokenizer.decode(row.input_ids[row.target_mask]) == "HelloFine"


def test_a_row_whose_answer_has_no_end_is_malformed() -> None:
    tokenizer = byte_level_tokenizer(
        "{% for m in messages %}{{ m['content'] }}"
        "{% if '!' not in messages[0]['content'] %}{{ eos_token }}{% endif %}{% endfor %}"
    )
    rows = make_encoder(tokenizer).encode(
        [Example("1", messages=tuple(conversation(word, "answer"))) for word in ("a", "b!", "c")]
    )
    assert [type(row) for row in rows] == [TokenizedRow, MalformedRow, TokenizedRow]
    assert "no end-of-turn token" in str(rows[1])


def test_a_header_that_swallows_white_space_is_no_target() -> None:
    from tokenizers import AddedToken

    tokenizer = byte_level_tokenizer()
    tokenizer.add_special_tokens(
        {"additional_special_tokens": [AddedToken("<|bot|>", rstrip=True, special=True)]}
    )
    tokenizer.chat_template = "{% for m in messages %}{{ '<|bot|>' + m['content'] + eos_token }}{% endfor %}"
    row = _encode(tokenizer, conversation("Hi", "  Hello"))
    assert tokenizer.decode(row.input_ids[row.target_mask]) == "Hello</s>"


def test_what_the_tokenizer_or_its_template_lacks_is_explained() -> None:
    messages = conversation("a", "b")
    with pytest.raises(UserError, match=r"no chat template.*chat_template_path.*alpaca, chatml"):
        _encode(byte_level_tokenizer(), messages)
    with pytest.raises(UserError, match="not valid Jinja"):
        _encode(byte_level_tokenizer("{% for m in %}"), messages)
    with pytest.raises(UserError, match=r"never learns to stop.*chat_template_path: alpaca"):
        _encode(
            byte_level_tokenizer("{% for m in messages %}{{ m['content'] + '\\n' }}{% endfor %}"), messages
        )

    class Slow:
        is_fast = False
        name_or_path = "old"

    with pytest.raises(UserError, match="fast"):
        make_encoder(Slow())  # type: ignore[arg-type]


def test_rows_of_all_kinds_keep_their_order() -> None:
    tokenizer = _tokenizer("byte_level", "mistral")
    examples = [
        Example("1", text="one"),
        Example("2", messages=tuple(conversation("a", "b"))),
        Example("3", messages=(Message("assistant", "b"),)),
        Example("4", prompt="c", completion="d"),
    ]
    rows = make_encoder(tokenizer).encode(examples)
    assert [getattr(row, "source", "malformed") for row in rows] == ["1", "2", "malformed", "4"]


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_a_prompt_with_its_answer_gives_the_training_row(family: str) -> None:
    tokenizer = _tokenizer("byte_level", family)
    example = Example("x", messages=tuple(conversation("Hi", "Hello", "And?", "It is 42.")))
    prompt, reference = render_prompt(tokenizer, example)
    row = _encode(tokenizer, list(example.messages or ()), train_on="last")
    first = int(np.flatnonzero(row.target_mask)[0])
    assert prompt_ids(tokenizer, example) == row.input_ids[:first].tolist()
    assert tokenizer.decode(row.input_ids[:first]) == prompt
    assert reference.strip().endswith("It is 42.")
    ends = FAMILIES[family][1](list(example.messages or ()))[2]
    assert tokenizer.decode(row.input_ids[row.target_mask]) == reference + ends[-1]
