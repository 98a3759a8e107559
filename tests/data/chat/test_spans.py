"""The spans that are found in a rendered conversation, against families written by plain concatenation."""

from __future__ import annotations

import pytest
from helpers.chat_tokenizers import FAMILIES, byte_level_tokenizer, conversation
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_align.data.chat.spans import render_with_answers
from hf_align.data.chat.templates import ChatFormat, chat_format
from hf_align.data.reading.raw import MalformedRow
from hf_align.types import Message

FORMATS: dict[str, ChatFormat] = {
    family: chat_format(byte_level_tokenizer(template)) for family, (template, _) in FAMILIES.items()
}
PIECES = (
    "Hello",
    "你好",
    "😀",
    " ",
    "\n",
    "\t",
    "user",
    "assistant",
    "<|im_end|>",
    "<|im_start|>assistant\n",
    "[INST]",
    " [/INST]",
    "</s>",
    "<start_of_turn>model\n",
    "### Response:\n",
    "answerspan0marker",
    "{{ 1 }}",
    "e\u0301",
    "\x00",
)
any_text = st.lists(st.sampled_from(PIECES) | st.text(max_size=4), max_size=6).map("".join)
texts = any_text.filter(lambda text: text.strip() != "" and "think>" not in text)
turns = st.lists(texts, min_size=2, max_size=6).map(lambda found: found[: len(found) // 2 * 2])
families = st.sampled_from(sorted(FAMILIES))


@settings(max_examples=300, deadline=None)
@given(family=families, turns=turns, system=st.none() | texts)
def test_spans_of_random_conversations(family: str, turns: list[str], system: str | None) -> None:
    messages = conversation(*turns, system=None if family == "gemma" else system)
    text, spans, _ = FAMILIES[family][1](messages)
    assert render_with_answers(FORMATS[family], messages) == (text, spans)


@settings(max_examples=100, deadline=None)
@given(family=families, same=texts, system=st.none() | texts)
def test_spans_where_every_turn_is_the_same_text(family: str, same: str, system: str | None) -> None:
    messages = conversation(same, same, same, same, system=None if family == "gemma" else system)
    text, spans, _ = FAMILIES[family][1](messages)
    assert render_with_answers(FORMATS[family], messages) == (text, spans)


def _thinking(thought: str, answer: str) -> str:
    return f"<think>\n{thought}\n</think>\n\n{answer}"


def test_thinking_is_part_of_the_last_answer_only() -> None:
    messages = conversation("a", _thinking("first", "one"), "b", _thinking("second", "two"))
    text, spans = render_with_answers(FORMATS["thinking"], messages, "last")
    assert [text[start:end] for start, end in spans] == ["one", "<think>\nsecond\n</think>\n\ntwo"]
    with pytest.raises(MalformedRow, match="leaves out a part of assistant turn 1") as caught:
        render_with_answers(FORMATS["thinking"], messages)
    assert caught.value.kind == "shortened answer"
    text, spans = render_with_answers(FORMATS["thinking"], messages, "none")
    assert [text[start:end] for start, end in spans] == ["one", "<think>\n\n</think>\n\ntwo"]


def test_an_empty_thinking_block_that_the_template_adds_is_part_of_the_answer() -> None:
    # The generation prompt ends before it, so the model has to write it.
    text, spans = render_with_answers(FORMATS["thinking"], conversation("a", "one"))
    assert [text[start:end] for start, end in spans] == ["<think>\n\n</think>\n\none"]


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_the_prompt_is_what_the_model_is_given_to_answer(family: str) -> None:
    messages = conversation("Hi", "Hello", "And?", "Fine")
    text, spans = render_with_answers(FORMATS[family], messages)
    given = FORMATS[family].render(messages[:-1], add_generation_prompt=True)
    assert text[: spans[-1][0]] == given


def _format(template: str) -> ChatFormat:
    return chat_format(byte_level_tokenizer(template))


def test_a_header_is_no_part_of_the_answer_where_the_template_has_no_generation_prompt() -> None:
    chat = _format("{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '</s>' }}{% endfor %}")
    text, spans = render_with_answers(chat, conversation("Hi", "Hello"))
    assert [text[start:end] for start, end in spans] == ["Hello"]


@pytest.mark.parametrize(
    ("shown", "answer"),
    [
        ("m['content'] | replace('l', 'L')", "a <L> b"),
        ("m['content'] | replace('<', '(')", "a (l> b"),
    ],
)
def test_answers_that_the_template_rewrites_are_followed(shown: str, answer: str) -> None:
    chat = _format("{% for m in messages %}{{ '<|im_start|>' + " + shown + " + '<|im_end|>' }}{% endfor %}")
    text, spans = render_with_answers(chat, conversation("x", "a <l> b"))
    assert text == f"<|im_start|>x<|im_end|><|im_start|>{answer}<|im_end|>"
    assert [text[start:end] for start, end in spans] == [answer]


@pytest.mark.parametrize(
    "body",
    [
        "{% for m in messages %}{{ m['content'] | upper }}{% endfor %}",  # the marker itself is changed
        "{% for m in messages if m['role'] == 'user' %}{{ m['content'] }}{% endfor %}",  # never shown
        "{% for m in messages %}{{ m['content'] + m['content'] }}{% endfor %}",  # shown twice
        "{% for m in messages %}{{ m['content'][:2] }}{% endfor %}",  # cut
    ],
)
def test_answers_that_cannot_be_found_are_reported(body: str) -> None:
    with pytest.raises(MalformedRow, match="answer not found"):
        render_with_answers(_format(body), conversation("Hello", "Hello"))


def test_the_refusal_of_the_template_is_passed_on() -> None:
    with pytest.raises(MalformedRow, match="Roles must alternate"):
        render_with_answers(
            FORMATS["mistral"], [Message("user", "a"), Message("user", "b"), Message("assistant", "c")]
        )
    with pytest.raises(MalformedRow, match="System role not supported"):
        render_with_answers(FORMATS["gemma"], conversation("a", "b", system="c"))


def test_a_template_that_breaks_down_makes_the_row_malformed() -> None:
    chat = _format("{% for m in messages %}{{ m['content'] + 1 }}{% endfor %}")
    with pytest.raises(MalformedRow, match="refuses the conversation"):
        render_with_answers(chat, conversation("a", "b"))


def test_consecutive_answers_and_an_answer_first() -> None:
    messages = [Message("assistant", "one"), Message("assistant", "one"), Message("user", "one")]
    text, spans = render_with_answers(FORMATS["chatml"], messages)
    assert text.count("one") == 3
    assert [text[start:end] for start, end in spans] == ["one", "one"]
    assert spans[0][0] == len("<|im_start|>assistant\n")
