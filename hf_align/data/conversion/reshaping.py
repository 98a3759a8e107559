"""Turns in the order that a strict template wants: no system role, and no two turns of one role in a row.

Done where the recipe asks for it, to whole conversations and to the prompts of compared answers alike. Each
function says what it did in a few words, under which the data report counts the rows. Between two texts that
become one stands an empty line, as in the templates that fold a system turn themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hf_align.data.reading.raw import MalformedRow
from hf_align.types import Comparison, Message
from hf_align.types.examples import Turns

if TYPE_CHECKING:
    from hf_align.config import DataConfig

FOLDED = "system turn folded into the user's turn"
MERGED = "turns of one role merged"
BETWEEN = "\n\n"
_MERGED_ROLES = ("system", "user", "assistant")


def reshaped(example: Any, data: DataConfig) -> tuple[Any, tuple[str, ...]]:
    """(the example as the recipe wants its turns, what was done to them).

    Raises MalformedRow where that cannot be done without another meaning.
    """
    turns = getattr(example, example.turns_in, None)
    if not isinstance(turns, tuple) or not (data.fold_system_prompt or data.merge_turns):
        return example, ()
    done = []
    for wanted, change, name in (
        (data.fold_system_prompt, folded_system, FOLDED),
        (data.merge_turns, merged_turns, MERGED),
    ):
        changed = change(turns) if wanted else turns
        if changed != turns:
            done.append(name)
            turns = changed
    example = replace(example, **{example.turns_in: turns})
    if data.merge_turns and isinstance(example, Comparison):
        answers = tuple(each if isinstance(each, str) else merged_turns(each) for each in example.answers)
        done += [MERGED] if answers != example.answers and MERGED not in done else []
        example = replace(example, answers=answers)
    return example, tuple(done)


def folded_system(turns: Sequence[Message]) -> Turns:
    """Without system turns: the text of each stands before that of the user's turn that follows it."""
    found: list[Message] = []
    waiting: list[str] = []
    for turn in turns:
        if turn.role == "system":
            waiting += [turn.content] if turn.content else []
        elif turn.role == "user" and waiting:
            found.append(replace(turn, content=BETWEEN.join([*waiting, turn.content])))
            waiting = []
        else:
            found.append(turn)
    if waiting:
        raise MalformedRow("fold_system_prompt: no turn of the user follows the system turn")
    return tuple(found)


def merged_turns(turns: Sequence[Message]) -> Turns:
    """One turn for each run of turns of the same role; results of tools stay as they are.

    Calls of tools go with the last of the turns that become one. Raises MalformedRow where calls or thoughts
    stand in an earlier one, and where only some of the turns are trained.
    """
    found: list[Message] = []
    for number, turn in enumerate(turns, start=1):
        last = found[-1] if found else None
        if last is None or turn.role != last.role or turn.role not in _MERGED_ROLES:
            found.append(turn)
            continue
        if last.extra and not (turn.role == "user" and last.extra == turn.extra):
            raise MalformedRow(
                f"merge_turns: turn {number - 1} has calls of tools, thoughts or a name, and cannot be one "
                f"with turn {number}"
            )
        if turn.role == "assistant" and turn.trained != last.trained:
            raise MalformedRow(
                f"merge_turns: of turns {number - 1} and {number} of the assistant only one is trained"
            )
        content = BETWEEN.join(text for text in (last.content, turn.content) if text)
        found[-1] = replace(turn, content=content)
    return tuple(found)
