"""Turns the values of one row into an ``Example``, one function a format.

Each takes the place of the row and its values by canonical column (None where the row has none), and raises
``MalformedRow`` with the reason when the row cannot be used as it stands. Nothing is repaired: what a row
says is either carried over whole or the row is malformed. Choosing the format is the business of ``formats``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from hf_align.data.conversion.turns import (
    read_text,
    read_turns,
    refuse_empty,
    system_turns,
    with_system_column,
)
from hf_align.data.reading.raw import MalformedRow, kind_of
from hf_align.types import Comparison, Example, Message
from hf_align.types.examples import answer_turns

_BAIZE_MARKER = re.compile(r"\[\|(Human|AI)\|\]")


def from_alpaca(place: str, values: dict[str, Any]) -> Example:
    """``instruction``, ``input`` and ``output``; also ``system`` and ``history`` (pairs of user, assistant).

    Instruction and input, where there is one, are joined by a line break into the user's turn.
    """
    messages = alpaca_prompt(values)
    messages.append(Message("assistant", read_text(values["output"], "output")))
    return _conversation(place, messages)


def alpaca_prompt(values: dict[str, Any]) -> list[Message]:
    """The turns before the answer: system, history, and the user's turn of instruction and input."""
    instruction = read_text(values["instruction"], "instruction", optional=True)
    given = read_text(values["input"], "input", optional=True)
    if not instruction.strip() and not given.strip():
        raise MalformedRow("instruction and input are empty")
    messages = system_turns(values["system"])
    history = values["history"]
    if history is not None and history != "":
        if not isinstance(history, list):
            raise MalformedRow(
                f"history: expected a list of [user, assistant] pairs, found {kind_of(history)}"
            )
        for number, pair in enumerate(history, start=1):
            if not isinstance(pair, list) or len(pair) != 2:
                raise MalformedRow(f"history {number}: expected a pair [user, assistant]")
            messages.append(Message("user", read_text(pair[0], f"history {number}, user")))
            messages.append(Message("assistant", read_text(pair[1], f"history {number}, assistant")))
    user = f"{instruction}\n{given}" if instruction and given else instruction or given
    return [*messages, Message("user", user)]


def from_sharegpt(place: str, values: dict[str, Any]) -> Example:
    """``conversations``: turns with from/value (ShareGPT, Vicuna) or role/content; also ``system``."""
    turns = read_turns(values["conversations"], "conversations")
    return _conversation(place, with_system_column(turns, values["system"]))


def from_messages(place: str, values: dict[str, Any]) -> Example:
    """``messages``: turns with role/content (or from/value), or their JSON text; also ``system``."""
    turns = read_turns(values["messages"], "messages")
    return _conversation(place, with_system_column(turns, values["system"]))


def from_baize(place: str, values: dict[str, Any]) -> Example:
    """``input``: a transcript with ``[|Human|]`` and ``[|AI|]`` before each turn.

    Text before the first marker becomes the system turn. The white space around a turn belongs to the
    transcript; so does the empty human turn that closes each transcript of this kind.
    """
    transcript = read_text(values["input"], "input")
    preamble, *parts = _BAIZE_MARKER.split(transcript)
    if not parts:
        raise MalformedRow("the transcript has neither [|Human|] nor [|AI|]")
    messages = system_turns(preamble.strip())
    for speaker, content in zip(parts[::2], parts[1::2], strict=True):
        messages.append(Message("user" if speaker == "Human" else "assistant", content.strip()))
    if messages[-1] == Message("user", ""):
        messages.pop()
    return _conversation(place, messages)


def from_prompt_completion(place: str, values: dict[str, Any]) -> Example:
    """``prompt`` and ``completion``: two strings, or two lists of turns, which make one conversation; also
    ``system``, which makes a conversation of two strings as well."""
    prompt, completion = values["prompt"], values["completion"]
    if isinstance(prompt, list) and isinstance(completion, list):
        if not any(turn.role == "assistant" for turn in read_turns(completion, "completion")):
            raise MalformedRow("completion: no assistant turn")
        turns = with_system_column(_prompt_turns(prompt), values["system"])
        return _conversation(place, [*turns, *read_turns(completion, "completion")])
    if isinstance(prompt, list) != isinstance(completion, list):
        raise MalformedRow(
            f"prompt is {kind_of(prompt)} and completion is {kind_of(completion)}; "
            "expected two strings or two lists of turns"
        )
    example = Example(
        place, prompt=read_text(prompt, "prompt"), completion=read_text(completion, "completion")
    )
    refuse_empty(completion, "completion")
    system = system_turns(values["system"])
    if system:
        turns = [*system, Message("user", example.prompt or ""), Message("assistant", completion)]
        return _conversation(place, turns)
    return example


def _prompt_turns(value: Any) -> list[Message]:
    turns = read_turns(value, "prompt")
    if turns[-1].role == "assistant":
        raise MalformedRow(
            "prompt: ends with a turn of the assistant; an answer that has begun is not continued. Put the "
            "beginning into the completion, or end the prompt with the user's turn"
        )
    return turns


def from_prompt(place: str, values: dict[str, Any]) -> Example:
    """``prompt`` without an answer: a string that is continued, or turns; also ``system``."""
    prompt = values["prompt"]
    if isinstance(prompt, list):
        return Example(place, messages=with_system_column(_prompt_turns(prompt), values["system"]))
    text = read_text(prompt, "prompt")
    refuse_empty(text, "prompt")
    system = system_turns(values["system"])
    if system:
        return Example(place, messages=(*system, Message("user", text)))
    return Example(place, prompt=text, completion="")


def asked_messages(place: str, values: dict[str, Any]) -> Example:
    """As ``from_messages``, for a stage that asks: the last turn may be the user's, which is then
    answered."""
    turns = with_system_column(read_turns(values["messages"], "messages"), values["system"])
    return _conversation(place, turns) if turns[-1].role == "assistant" else Example(place, messages=turns)


def asked_sharegpt(place: str, values: dict[str, Any]) -> Example:
    """As ``from_sharegpt``, for a stage that asks."""
    return asked_messages(place, {"messages": values["conversations"], "system": values["system"]})


def asked_pair(convert: Callable[[str, dict[str, Any]], Comparison]) -> Callable[..., Example]:
    """Makes of a comparison its prompt; the reference is the best answer, of a longer one its first turn."""

    def ask(place: str, values: dict[str, Any]) -> Example:
        found = convert(place, values)
        best = found.answers[found.scores.index(max(found.scores))]
        first = answer_turns(best)[0]
        if isinstance(found.prompt, str):
            return Example(place, prompt=found.prompt, completion=first.content)
        return Example(place, messages=(*found.prompt, first))

    return ask


def from_text(place: str, values: dict[str, Any]) -> Example:
    """``text``: one plain document."""
    text = read_text(values["text"], "text")
    refuse_empty(text, "text")
    return Example(place, text=text)


def _conversation(place: str, messages: Sequence[Message]) -> Example:
    """An example of these turns, which must have an assistant turn and no empty one of that role."""
    answers = [message for message in messages if message.role == "assistant"]
    if not answers:
        raise MalformedRow("no assistant turn")
    for number, message in enumerate(answers, start=1):
        if not message.content.strip() and not message.extra:
            raise MalformedRow(
                "empty answer" if len(answers) == 1 else f"empty answer (assistant turn {number})"
            )
    return Example(place, messages=tuple(messages))
