"""Turns the values of one row into a ``Comparison``, one function a format.

As in ``answers``: each takes the place of the row and its values by canonical column, and raises
``MalformedRow`` with the reason where the row cannot be used as it stands. The troubles that only compared
answers have are counted by kind (``KINDS``). Choosing the format is the business of ``formats``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

from hf_align.data.conversion.answers import alpaca_prompt
from hf_align.data.conversion.shared_prompts import IDENTICAL, NOT_SHARED, after, after_text, without_prompt
from hf_align.data.conversion.turns import (
    read_text,
    read_turn,
    read_turns,
    system_turns,
    with_system_column,
)
from hf_align.data.reading.raw import MalformedRow, kind_of
from hf_align.types import Comparison, Message
from hf_align.types.examples import Turns, answer_turns

EMPTY = "empty answer"
TIED = "all answers tied"
KINDS = (NOT_SHARED, IDENTICAL, EMPTY, TIED)
"""The kinds of malformed comparisons that a report counts one by one."""

HH_MARKER = re.compile(r"(?:^|\n\n)(Human|Assistant):")
"""What stands before each turn of a transcript in the style of Anthropic's helpful and harmless data."""

_SCORE_KEYS = ("score", "overall_score", "fine-grained_score")
_ANSWER_KEYS = ("response", "content", "text")


def from_preference(place: str, values: dict[str, Any]) -> Comparison:
    """``chosen`` (or ``selected``) and ``rejected``; also ``prompt``, ``system``, ``margin``.

    Each answer is a string, a turn, or a list of turns: the answer alone, or the whole conversation with the
    prompt in front. An answer may go on over several turns, whose first and last are the assistant's. The
    prompt is a string or a list of turns. Without it, the answers have to be whole conversations, and the
    turns that they share are the prompt. Where prompt and answers are all strings they are joined as they
    stand, without a chat template; a ``system`` column makes a conversation of them.
    """
    return _pair(place, values["prompt"], values)


def from_alpaca_preference(place: str, values: dict[str, Any]) -> Comparison:
    """``instruction``, ``chosen`` (or ``selected``) and ``rejected``; also ``input``, ``margin`` and more.

    The prompt is a conversation of ``system``, ``history``, instruction and input, as in the format alpaca.
    """
    return _pair(place, alpaca_prompt(values), values | {"system": None})


def from_sharegpt_preference(place: str, values: dict[str, Any]) -> Comparison:
    """``conversations`` up to the answer, ``chosen`` and ``rejected``; also ``system`` and ``margin``."""
    return _pair(place, read_turns(values["conversations"], "conversations"), values)


def from_hh(place: str, values: dict[str, Any]) -> Comparison:
    """``chosen`` (or ``selected``) and ``rejected``: transcripts; also ``system`` and ``margin``.

    ``Human:`` and ``Assistant:``, each after an empty line, begin a turn. Text before the first becomes the
    system turn. The white space around a turn belongs to the transcript.
    """
    transcripts = [_transcript(values[column], column) for column in ("chosen", "rejected")]
    prompt, answers = without_prompt(transcripts)
    return _comparison(place, with_system_column(prompt, values["system"]), answers, (1.0, 0.0), values)


def from_ultrafeedback(place: str, values: dict[str, Any]) -> Comparison:
    """``prompt`` (or ``instruction``) and ``completions``; also ``system`` and ``margin``.

    Each completion is an object with ``response``, ``content`` or ``text``, and with ``score``,
    ``overall_score`` or ``fine-grained_score`` (the first that it has). A prompt that is a string is the
    user's turn.
    """
    prompt = values["prompt"]
    if not isinstance(prompt, list):
        prompt = [Message("user", read_text(prompt, "prompt"))]
    completions = _list(values["completions"], "completions")
    answers, scores = [], []
    for number, completion in enumerate(completions, start=1):
        name = f"completion {number}"
        if not isinstance(completion, dict):
            raise MalformedRow(f"{name}: expected an object, found {kind_of(completion)}")
        answers.append(_first(completion, _ANSWER_KEYS, name))
        scores.append(_number(_first(completion, _SCORE_KEYS, name), f"{name}, score"))
    return _listed(place, prompt, answers, scores, "completion", values)


def from_ranking(place: str, values: dict[str, Any]) -> Comparison:
    """``prompt`` and ``answers``; also ``scores``, ``system``, ``margin``.

    ``scores``: a number for each answer, higher is better, equal numbers tie; without them the best answer
    comes first. Prompt and answers take the same forms as in the format preference.
    """
    answers = _list(values["answers"], "answers")
    given = values["scores"]
    if given is None:
        scores = [float(len(answers) - number) for number in range(1, len(answers) + 1)]
    else:
        listed = _list(given, "scores")
        if len(listed) != len(answers):
            raise MalformedRow(f"scores: expected {len(answers)}, one for each answer, found {len(listed)}")
        scores = [_number(score, f"score {number}") for number, score in enumerate(listed, start=1)]
    return _listed(place, values["prompt"], answers, scores, "answer", values)


def _pair(place: str, prompt: Any, values: dict[str, Any]) -> Comparison:
    answers = [_answer(values[column], column) for column in ("chosen", "rejected")]
    return _assembled(place, prompt, answers, (1.0, 0.0), values)


def _listed(
    place: str, prompt: Any, given: Sequence[Any], scores: Sequence[float], name: str, values: dict[str, Any]
) -> Comparison:
    if len(given) < 2:
        raise MalformedRow(f"expected at least 2 answers, found {len(given)}")
    answers = [_answer(value, f"{name} {number}") for number, value in enumerate(given, start=1)]
    return _assembled(place, prompt, answers, scores, values)


def _assembled(
    place: str,
    prompt: Any,
    answers: Sequence[str | Turns],
    scores: Sequence[float],
    values: dict[str, Any],
) -> Comparison:
    """The comparison of answers that are strings or turns, after a prompt in any of its forms."""
    has_turns = any(not isinstance(answer, str) for answer in answers)
    if prompt is None:
        if has_turns and any(isinstance(answer, str) for answer in answers):
            raise MalformedRow("has no prompt, and only some of the answers are conversations", NOT_SHARED)
        if not has_turns:
            raise MalformedRow("has no prompt, and the answers are no conversations that hold one")
        turns, texts = without_prompt([answer for answer in answers if not isinstance(answer, str)])
    elif isinstance(prompt, list):
        turns = tuple(_as_turn(turn, number) for number, turn in enumerate(prompt, start=1))
        if not turns:
            raise MalformedRow("prompt: empty conversation")
        texts = [after(turns, answer, number) for number, answer in enumerate(answers, start=1)]
    else:
        text = read_text(prompt, "prompt")
        if not has_turns and values["system"] is None:
            return _comparison(place, text, [str(answer) for answer in answers], scores, values)
        turns, texts = after_text(text, answers)
    return _comparison(place, with_system_column(turns, values["system"]), texts, scores, values)


def _comparison(
    place: str,
    prompt: Turns | str,
    answers: Sequence[str | Turns],
    scores: Sequence[float],
    values: dict[str, Any],
) -> Comparison:
    """The comparison, if each answer says something and not all of them are equally good."""
    if not isinstance(prompt, str) and prompt[-1].role == "assistant":
        raise MalformedRow("the prompt ends with a turn of the assistant, before the answers")
    for number, answer in enumerate(answers, start=1):
        texts = [turn.content for turn in answer_turns(answer) if turn.role == "assistant"]
        if not all(text.strip() for text in texts):
            raise MalformedRow(f"answer {number} is empty", EMPTY)
    score_of: dict[str | Turns, float] = {}
    for number, (answer, score) in enumerate(zip(answers, scores, strict=True), start=1):
        if score_of.setdefault(answer, score) != score:
            raise MalformedRow(f"answer {number} is the same as one that is better or worse", IDENTICAL)
    if len(set(scores)) == 1:
        raise MalformedRow("no answer is better than another", TIED)
    margin = None if values["margin"] is None else _number(values["margin"], "margin")
    return Comparison(place, prompt, tuple(answers), tuple(scores), margin)


def _answer(value: Any, name: str) -> str | Turns:
    """A string, or the turns of an object or of a list."""
    if isinstance(value, dict):
        return (read_turn(value, name),)
    if isinstance(value, list):
        return tuple(read_turns(value, name))
    return read_text(value, name)


def _as_turn(value: Any, number: int) -> Message:
    return value if isinstance(value, Message) else read_turn(value, f"prompt, turn {number}")


def _transcript(value: Any, column: str) -> Turns:
    preamble, *parts = HH_MARKER.split(read_text(value, column))
    if not parts:
        raise MalformedRow(f"{column}: the transcript has neither Human: nor Assistant: after an empty line")
    turns = system_turns(preamble.strip())
    for speaker, content in zip(parts[::2], parts[1::2], strict=True):
        turns.append(Message("user" if speaker == "Human" else "assistant", content.strip()))
    return tuple(turns)


def _list(value: Any, name: str) -> list[Any]:
    if not isinstance(value, list):
        raise MalformedRow(f"{name}: expected a list, found {kind_of(value)}")
    return value


def _first(values: dict[str, Any], keys: Sequence[str], name: str) -> Any:
    """The value of the first of ``keys`` that the object has."""
    key = next((key for key in keys if values.get(key) is not None), None)
    if key is None:
        raise MalformedRow(f"{name}: has neither {' nor '.join(keys)}")
    return values[key]


def _number(value: Any, name: str) -> float:
    """A finite number, in double precision."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise MalformedRow(f"{name}: expected a number, found {kind_of(value)}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise MalformedRow(f"{name}: expected a finite number, found {ascii(value)[:40]}")
    return number
