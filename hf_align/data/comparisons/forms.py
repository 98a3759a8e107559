"""Comparisons in other forms: pairs of a ranking and back, and the rows that other tools read.

Pure functions. Each ``as_…`` function gives the values of one row, ready to be written as JSON, from
which ``conversion.comparisons`` makes the same comparison again; its format is named in the docstring. Of
pairs only the order is kept: the chosen answer scores 1 and the other 0. What a form cannot hold raises
ValueError instead of being left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from hf_align.data.conversion.comparisons import HH_MARKER
from hf_align.types import Comparison, Message
from hf_align.types.examples import Turns, answer_turns

_SPEAKERS = {"user": "Human", "assistant": "Assistant"}
_SHAREGPT_ROLES = {"user": "human", "assistant": "gpt", "system": "system", "tool": "tool"}


def pairs_of(comparison: Comparison) -> list[Comparison]:
    """Every two answers that do not tie, the chosen one first, with their scores."""
    answered = list(zip(comparison.answers, comparison.scores, strict=True))
    return [
        replace(comparison, answers=(chosen, rejected), scores=(high, low))
        for chosen, high in answered
        for rejected, low in answered
        if high > low
    ]


def ranking_of(pairs: Sequence[Comparison]) -> Comparison:
    """The ranking whose pairs are exactly these: answers in the order of their first appearance.

    The score of an answer is the number of answers that it beats; answers that are not compared with each
    other tie. Raises ValueError where the pairs have different prompts or margins, contradict each other, or
    leave open how two answers compare that cannot tie.
    """
    if not pairs:
        raise ValueError("a ranking needs at least one pair")
    first = pairs[0]
    for pair in pairs:
        if (pair.prompt, pair.margin) != (first.prompt, first.margin):
            raise ValueError(f"{pair.source}: another prompt or margin than {first.source}")
    beats = {beaten for pair in pairs for beaten in _ordered(pair)}
    answers = tuple(dict.fromkeys(answer for pair in pairs for answer in pair.answers))
    scores = tuple(float(sum(chosen == answer for chosen, _ in beats)) for answer in answers)
    ranking = replace(first, answers=answers, scores=scores)
    if {beaten for pair in pairs_of(ranking) for beaten in _ordered(pair)} != beats:
        raise ValueError(f"{first.source}: the pairs do not make one order of the answers")
    return ranking


def as_preference(pair: Comparison) -> dict[str, Any]:
    """``prompt``, ``chosen`` and ``rejected`` (format preference): turns, or strings after a plain prompt."""
    chosen, rejected = _two(pair)
    if isinstance(pair.prompt, str):
        row: dict[str, Any] = {"prompt": pair.prompt, "chosen": chosen, "rejected": rejected}
    else:
        row = {
            "prompt": [_turn(message) for message in pair.prompt],
            "chosen": [_turn(message) for message in answer_turns(chosen)],
            "rejected": [_turn(message) for message in answer_turns(rejected)],
        }
    return row | _margin(pair)


def as_sharegpt(pair: Comparison) -> dict[str, Any]:
    """``conversations``, ``chosen`` and ``rejected`` with from and value (format sharegpt_preference)."""
    chosen, rejected = _two(pair)
    return {
        "conversations": [_sharegpt_turn(message) for message in _turns(pair)],
        "chosen": _sharegpt_answer(chosen),
        "rejected": _sharegpt_answer(rejected),
        **_margin(pair),
    }


def as_hh(pair: Comparison) -> dict[str, Any]:
    """Two whole transcripts, ``chosen`` and ``rejected`` (format hh).

    A system turn in front stands before the first speaker. Raises ValueError for a system turn elsewhere, for
    a tool's turn, and for a turn that would be read back differently: one with white space around it or with
    the mark of a speaker in it.
    """
    chosen, rejected = _two(pair)
    turns = _turns(pair)
    return {
        "chosen": _transcript([*turns, *answer_turns(chosen)], pair.source),
        "rejected": _transcript([*turns, *answer_turns(rejected)], pair.source),
        **_margin(pair),
    }


def as_ranking(comparison: Comparison) -> dict[str, Any]:
    """``prompt``, ``answers`` and ``scores`` (format ranking); the scores stay as they are."""
    prompt = comparison.prompt
    return {
        "prompt": prompt if isinstance(prompt, str) else [_turn(message) for message in prompt],
        "answers": [
            answer if isinstance(answer, str) else [_turn(message) for message in answer]
            for answer in comparison.answers
        ],
        "scores": list(comparison.scores),
        **_margin(comparison),
    }


def _ordered(comparison: Comparison) -> list[tuple[str | Turns, ...]]:
    """(chosen, rejected) for every two answers that do not tie."""
    return [pair.answers for pair in pairs_of(comparison)]


def _two(pair: Comparison) -> tuple[str | Turns, ...]:
    if len(pair.answers) != 2:
        raise ValueError(f"{pair.source}: expected a pair, found {len(pair.answers)} answers; see pairs_of")
    ordered = _ordered(pair)
    if not ordered:
        raise ValueError(f"{pair.source}: the answers tie")
    return ordered[0]


def _turns(comparison: Comparison) -> tuple[Message, ...]:
    if isinstance(comparison.prompt, str):
        raise ValueError(
            f"{comparison.source}: the prompt is a plain string, and this form holds conversations"
        )
    return comparison.prompt


def _turn(message: Message) -> dict[str, str]:
    return {"role": message.role, "content": message.content}


def _sharegpt_turn(message: Message) -> dict[str, str]:
    return {"from": _SHAREGPT_ROLES[message.role], "value": message.content}


def _sharegpt_answer(answer: str | Turns) -> Any:
    """A turn, or a list of them."""
    turns = [_sharegpt_turn(message) for message in answer_turns(answer)]
    return turns[0] if isinstance(answer, str) else turns


def _transcript(messages: Sequence[Message], source: str) -> str:
    text = ""
    for number, message in enumerate(messages):
        content = message.content
        if content != content.strip() or HH_MARKER.search(content):
            raise ValueError(f"{source}: turn {number + 1} would not be read back as it is: {content[:60]!r}")
        if message.role == "system" and number == 0 and content:
            text += content
        elif message.role in _SPEAKERS:
            text += f"\n\n{_SPEAKERS[message.role]}: {content}"
        else:
            raise ValueError(f"{source}: a transcript has no place for turn {number + 1} ({message.role})")
    return text


def _margin(comparison: Comparison) -> dict[str, float]:
    return {} if comparison.margin is None else {"margin": comparison.margin}
