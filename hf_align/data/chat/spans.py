"""Finds the assistant's answers in the text that a chat template rendered, for any template.

A template says nowhere which part of its output is an answer. So each answer is replaced by a marker that
occurs nowhere else: what the marked text has before and after the marker is the template's, and what the
real text has between those two is the answer in whatever form the template gave it (trimmed, without its
thinking, …). Every span is verified against the real text; an answer that cannot be found is reported, never
guessed.

A span starts where the generation prompt ends, because all that follows is what the model has to write
itself: usually exactly the answer, for some templates an empty thinking block before it. The end-of-turn
token after an answer is found among the tokens, in ``masking``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from hf_align.data.chat.templates import ChatFormat
from hf_align.data.conversion.turn_fields import REASONING_KEYS
from hf_align.data.reading.raw import MalformedRow
from hf_align.types import Message

Span = tuple[int, int]
"""Start (included) and end (excluded) in characters of the rendered text."""


SHORTENED = "shortened answer"
"""The kind of a row with an answer that the template leaves a part of out."""
KeepReasoning = Literal["none", "last", "all"]
_THOUGHT = re.compile(r"\A\s*<think>.*?</think>\s*", re.DOTALL)


def render_with_answers(
    chat: ChatFormat, messages: Sequence[Message], keep: KeepReasoning | None = None
) -> tuple[str, list[Span]]:
    """(rendered text, the span of each assistant turn in order), as ``find_answers``.

    ``keep``: of which answers everything has to be in the text: ``all`` and None: of all, ``last``: of the
    last one, as templates have it that leave out earlier thoughts. ``none``: thoughts are left out before.

    Errors: also ``MalformedRow`` where an answer that has to be whole came out shorter than it was given.
    """
    if keep == "none":
        messages = [without_thoughts(message) for message in messages]
    text, spans = find_answers(chat, messages)
    answers = [message for message in messages if message.role == "assistant"]
    for number, (answer, (start, end)) in enumerate(zip(answers, spans, strict=True), start=1):
        if number == len(answers) or keep != "last":
            _check_whole(answer, text[start:end], number)
    return text, spans


def find_answers(chat: ChatFormat, messages: Sequence[Message]) -> tuple[str, list[Span]]:
    """(rendered text, the span of each assistant turn in order).

    Errors: ``MalformedRow`` where the template refuses the conversation or an answer is not found.
    """
    text = chat.render(messages)
    turns = [index for index, message in enumerate(messages) if message.role == "assistant"]
    marker = _unused_marker(text, messages)
    # Calls and thoughts stand beside the content, where a marker in its place does not show.
    plain = not any(messages[turn].extra for turn in turns)
    spans = _all_at_once(chat, messages, turns, text, marker) if plain else None
    if spans is None:
        spans = [
            _one_by_one(chat, messages, turn, number, text, marker)
            for number, turn in enumerate(turns, start=1)
        ]
    previous_end = 0
    for number, (start, end) in enumerate(spans, start=1):
        if not previous_end <= start < end:
            raise _not_found(number)
        previous_end = end
    return text, spans


def without_thoughts(message: Message) -> Message:
    """An answer without its thoughts: without ``reasoning_content``, and without a leading ``<think>``
    block."""
    if message.role != "assistant":
        return message
    extra = json.loads(message.extra) if message.extra else {}
    kept = {key: value for key, value in extra.items() if key not in REASONING_KEYS}
    content = _THOUGHT.sub("", message.content)
    return replace(message, content=content, extra=json.dumps(kept, ensure_ascii=False) if kept else "")


def _check_whole(message: Message, written: str, number: int) -> None:
    """Raise ``MalformedRow`` where the template wrote less than the answer, or left a call of it out.

    Other characters in as great a number are the template's way to write it; white space does not count.
    """
    if not message.extra and message.content in written:
        return
    extra = json.loads(message.extra) if message.extra else {}
    given = "".join((message.content + str(extra.get("reasoning_content", ""))).split())
    if len("".join(written.split())) < len(given):
        raise MalformedRow(
            f"the chat template leaves out a part of assistant turn {number} ({_shown(message, extra)}); set "
            "keep_reasoning: last where earlier thoughts may be left out, keep_reasoning: none to train "
            "without thoughts, or use another template",
            SHORTENED,
        )
    _check_calls(message, written, number)


def _check_calls(message: Message, written: str, number: int) -> None:
    """Raise ``MalformedRow`` for a call that the template did not write."""
    for call in (json.loads(message.extra) if message.extra else {}).get("tool_calls", ()):
        name = call["function"]["name"]
        if name not in written:
            raise MalformedRow(
                f"the chat template does not write the call of {name!r} in assistant turn {number}; use a "
                "template that reads tool_calls",
                SHORTENED,
            )


def _shown(message: Message, extra: Mapping[str, Any]) -> str:
    flat = " ".join(str(extra.get("reasoning_content") or message.content).split())
    return ascii(flat if len(flat) <= 40 else flat[:37] + "...")


def _all_at_once(
    chat: ChatFormat, messages: Sequence[Message], turns: list[int], text: str, marker: str
) -> list[Span] | None:
    """The spans from a single marked rendering, or None unless it explains every character of ``text``.

    It does when the pieces around the markers, joined by the answers (whole or trimmed), give the text.
    """
    marked = list(messages)
    for turn in turns:
        marked[turn] = replace(messages[turn], content=marker)
    pieces = _render_or_none(chat, marked, marker, count=len(turns))
    if pieces is None or not text.startswith(pieces[0]):
        return None
    spans = []
    position = len(pieces[0])
    for number, turn in enumerate(turns):
        content, following = messages[turn].content, pieces[number + 1]
        for form in dict.fromkeys((content, content.strip(), content.rstrip(), content.lstrip())):
            end = position + len(form)
            if text.startswith(form, position) and text.startswith(following, end):
                break
        else:
            return None
        start = _after_generation_prompt(chat, messages, turn, text, position, end, pieces[number])
        spans.append((start, end))
        position = end + len(following)
    return spans if position == len(text) else None


def _one_by_one(
    chat: ChatFormat, messages: Sequence[Message], turn: int, number: int, text: str, marker: str
) -> Span:
    """The span of one answer, with all other turns as they are."""
    marked = list(messages)
    # Alone in its turn, so that what stands around it is none of the answer.
    marked[turn] = Message("assistant", marker)
    pieces = _render_or_none(chat, marked, marker, count=1)
    if pieces is None:
        raise _not_found(number)
    before, after = pieces
    end = len(text) - len(after)
    if not text.endswith(after) or end <= 0:
        raise _not_found(number)
    if text.startswith(before) and len(before) < end:
        start = _after_generation_prompt(chat, messages, turn, text, len(before), end, before)
        return start, end
    if end <= len(before):
        _check_calls(messages[turn], "", number)
    # The template writes something else before a real answer (a thinking block taken from its content).
    prompt = generation_prefix(chat, messages, turn)
    if prompt is None or not text.startswith(prompt) or not chat.generation_prompt:
        raise _not_found(number)
    return len(prompt), end


def _after_generation_prompt(
    chat: ChatFormat, messages: Sequence[Message], turn: int, text: str, start: int, end: int, before: str
) -> int:
    """``start``, moved to where the prompt that the model gets for this turn ends."""
    if chat.generation_prompt and before.endswith(chat.generation_prompt):
        return start
    prompt = generation_prefix(chat, messages, turn)
    if prompt is None or not text.startswith(prompt) or len(prompt) >= end:
        return start
    between = text[len(prompt) : start]
    # A template without a generation prompt leaves the turn's header to the caller: a header is no target,
    # white space before the answer is.
    return len(prompt) if chat.generation_prompt or not between.strip() else start


def generation_prefix(chat: ChatFormat, messages: Sequence[Message], turn: int) -> str | None:
    """What the model is given to produce this turn, or None where the template cannot say."""
    if turn == 0:
        return None
    try:
        return chat.render(messages[:turn], add_generation_prompt=True)
    except MalformedRow:
        return None


def _render_or_none(
    chat: ChatFormat, marked: Sequence[Message], marker: str, *, count: int
) -> list[str] | None:
    """The pieces around ``count`` markers, or None where the template lost, changed or repeated one."""
    try:
        pieces = chat.render(marked).split(marker)
    except MalformedRow:
        return None
    return pieces if len(pieces) == count + 1 else None


def _unused_marker(text: str, messages: Sequence[Message]) -> str:
    number = 0
    while True:
        marker = f"answerspan{number}marker"
        if marker not in text and all(marker not in message.content for message in messages):
            return marker
        number += 1


def _not_found(number: int) -> MalformedRow:
    return MalformedRow(f"answer not found in the rendered text (assistant turn {number})")
