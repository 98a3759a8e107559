"""Where the prompt of compared answers ends and each answer begins, in conversations given in any form.

An answer is one turn of the assistant, or several turns that the assistant begins and ends. Raises
``MalformedRow`` of the kinds ``NOT_SHARED`` and ``IDENTICAL`` where conversations do not fit together.
"""

from __future__ import annotations

from collections.abc import Sequence

from hf_align.data.conversion.turns import refuse_extra
from hf_align.data.reading.raw import MalformedRow
from hf_align.types import Message
from hf_align.types.examples import Turns

NOT_SHARED = "prompt not shared"
IDENTICAL = "identical answers"


def after_text(prompt: str, answers: Sequence[str | Turns]) -> tuple[Turns, list[str | Turns]]:
    """(prompt, answers) where the prompt is the text of a user's turn."""
    whole = [
        answer
        for answer in answers
        if not isinstance(answer, str) and len(answer) > 1 and answer[0].role != "assistant"
    ]
    if len(whole) == len(answers):
        turns, texts = without_prompt(whole)
        if not any(turn.role == "user" and turn.content.strip() == prompt.strip() for turn in turns):
            raise MalformedRow("no user turn that the conversations share is the prompt", NOT_SHARED)
        return turns, texts
    turns = (Message("user", prompt),)
    return turns, [after(turns, answer, number) for number, answer in enumerate(answers, start=1)]


def after(prompt: Turns, answer: str | Turns, number: int) -> str | Turns:
    """An answer that stands alone, or in a conversation that begins with the prompt."""
    if isinstance(answer, str):
        return answer
    rest = answer
    if len(answer) > 1:
        if answer[: len(prompt)] == prompt:
            rest = answer[len(prompt) :]
        elif answer[0].role != "assistant":
            raise MalformedRow(f"answer {number} does not begin with the prompt", NOT_SHARED)
    if not _answers(rest):
        raise MalformedRow(
            f"answer {number}: expected one turn after the prompt, or several that the assistant begins and "
            f"ends, found {len(rest)}",
            NOT_SHARED,
        )
    return _one_or_several(rest, number)


def without_prompt(conversations: Sequence[Turns]) -> tuple[Turns, list[str | Turns]]:
    """(the turns that all conversations share, what each has after them)."""
    first = conversations[0]
    if all(conversation == first for conversation in conversations):
        raise MalformedRow("the conversations are the same", IDENTICAL)
    shared = 0
    for turns in zip(*conversations, strict=False):
        if any(turn != turns[0] for turn in turns):
            break
        shared += 1
    for number, conversation in enumerate(conversations, start=1):
        rest = conversation[shared:]
        if not _answers(rest):
            raise MalformedRow(
                f"the conversations share their first {shared} turns, after which conversation {number} has "
                f"{len(rest)}; expected one answer, or turns that the assistant begins and ends",
                NOT_SHARED,
            )
    if not shared:
        raise MalformedRow("the conversations share no turn that could be the prompt", NOT_SHARED)
    return first[:shared], [
        _one_or_several(conversation[shared:], number)
        for number, conversation in enumerate(conversations, start=1)
    ]


def _answers(turns: Turns) -> bool:
    """Whether these turns can be an answer: one turn, or several that the assistant begins and ends."""
    return len(turns) == 1 or (len(turns) > 1 and turns[0].role == turns[-1].role == "assistant")


def _one_or_several(turns: Turns, number: int) -> str | Turns:
    """The text of an answer of one turn; the turns of a longer one."""
    if len(turns) == 1:
        return _assistant(turns[0], number)
    for turn in turns:
        if turn.role == "assistant":
            refuse_extra(turn, f"answer {number}")
    return turns


def _assistant(turn: Message, number: int) -> str:
    if turn.role != "assistant":
        raise MalformedRow(f"answer {number} is a turn of the {turn.role}; expected one of the assistant")
    refuse_extra(turn, f"answer {number}")
    return turn.content
