"""Answers of two models put to a judge, and what was asked in words."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from hf_align.evaluation.judging.answer_comparison import judged, request_text
from hf_align.types import Example, Message


class AlwaysFirst:
    """A judge that prefers whatever stands first."""

    def __init__(self) -> None:
        self.pairs: list[Any] = []

    def compare(self, pairs: list[Any], progress: Any = None) -> list[str]:
        self.pairs = list(pairs)
        return ["first"] * len(pairs)


def reply(answer: str, example: Example) -> Any:
    return SimpleNamespace(answer=answer, asked=SimpleNamespace(prompt=SimpleNamespace(example=example)))


def test_every_pair_is_judged_in_both_orders() -> None:
    example, judge = Example("p", prompt="ask", completion="x"), AlwaysFirst()
    ours, theirs = [reply("a", example), reply("b", example)], [reply("c", example), reply("d", example)]
    outcomes, found = judged(judge, ours, theirs)  # type: ignore[arg-type]
    assert judge.pairs == [("ask", "a", "c"), ("ask", "b", "d"), ("ask", "c", "a"), ("ask", "d", "b")]
    assert outcomes.tolist() == [0.5, 0.5] and found["consistent"] == 0.0


def test_a_conversation_says_who_speaks() -> None:
    turns = (Message("system", "s"), Message("user", "a"), Message("assistant", "b"), Message("user", "c"))
    talk = Example("p", messages=(*turns, Message("assistant", "answer")))
    assert request_text(reply("x", talk).asked) == "system: s\n\nuser: a\n\nassistant: b\n\nuser: c"
    alone = Example("p", messages=(Message("user", "a"), Message("assistant", "answer")))
    assert request_text(reply("x", alone).asked) == "a"
