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

from collections.abc import Sequence
from dataclasses import replace

from hf_align.data.chat.templates import ChatFormat
from hf_align.data.reading.raw import MalformedRow
from hf_align.types import Message

Span = tuple[int, int]
"""Start (included) and end (excluded) in characters of the rendered text."""


def render_with_answers(chat: ChatFormat, messages: Sequence[Message]) -> tuple[str, list[Span]]:
    """(rendered text, the span of each assistant turn in order).

    Errors: ``MalformedRow`` where the template refuses the conversation or an answer is not found.
    """
    text = chat.render(messages)
    turns = [index for index, message in enumerate(messages) if message.role == "assistant"]
    marker = _unused_marker(text, messages)
    spans = _all_at_once(chat, messages, turns, text, marker)
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
    marked[turn] = replace(messages[turn], content=marker)
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
    # The template writes something else before a real answer (a thinking block taken from its content).
    prompt = _generation_prefix(chat, messages, turn)
    if prompt is None or not text.startswith(prompt) or not chat.generation_prompt:
        raise _not_found(number)
    return len(prompt), end


def _after_generation_prompt(
    chat: ChatFormat, messages: Sequence[Message], turn: int, text: str, start: int, end: int, before: str
) -> int:
    """``start``, moved to where the prompt that the model gets for this turn ends."""
    if chat.generation_prompt and before.endswith(chat.generation_prompt):
        return start
    prompt = _generation_prefix(chat, messages, turn)
    if prompt is None or not text.startswith(prompt) or len(prompt) >= end:
        return start
    between = text[len(prompt) : start]
    # A template without a generation prompt leaves the turn's header to the caller: a header is no target,
    # white space before the answer is.
    return len(prompt) if chat.generation_prompt or not between.strip() else start


def _generation_prefix(chat: ChatFormat, messages: Sequence[Message], turn: int) -> str | None:
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
