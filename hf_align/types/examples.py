"""Rows of data sets in canonical form, before a tokenizer has seen them.

``turns_in`` names the field that may hold a conversation, ``stored`` gives the content without the source as
JSON takes it, and ``from_stored`` makes it an example again.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, cast


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation. ``role`` is ``system``, ``user``, ``assistant`` or ``tool``.

    ``extra``: a JSON object of what else the chat template gets of the turn (``tool_calls``,
    ``reasoning_content``), or an empty text. ``trained``: whether an answer is learned from.
    """

    role: str
    content: str
    extra: str = ""
    trained: bool = True

    def for_template(self) -> dict[str, Any]:
        """The turn as chat templates read it."""
        turn: dict[str, Any] = {"role": self.role, "content": self.content}
        return turn | json.loads(self.extra) if self.extra else turn


Turns = tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class Example:
    """One row of a data set in canonical form: exactly one of the three kinds is set.

    ``messages``: a conversation, rendered with the model's chat template. ``prompt`` and ``completion``:
    plain strings, joined without a template. ``text``: a plain document, every token of which is a target.
    ``template``: a JSON object of what the chat template gets beside the turns (``tools``, and the keywords
    of ``chat_template_kwargs``), or an empty text. ``weight``: what the loss of its targets is multiplied by.
    ``source`` names the place the row came from, for example
    ``data/orders_en.jsonl:12``.
    """

    source: str
    messages: Turns | None = None
    prompt: str | None = None
    completion: str | None = None
    text: str | None = None
    template: str = ""
    weight: float = 1.0

    turns_in: ClassVar[str] = "messages"

    @property
    def answered(self) -> bool:
        """Whether the row holds an answer, or is a text; a prompt alone is there to be answered."""
        if self.messages is not None:
            return self.messages[-1].role == "assistant"
        return bool(self.completion) or self.text is not None

    def stored(self) -> tuple[str, Any]:
        if self.weight != 1:
            return "weighted", (self.weight, *replace(self, weight=1.0).stored())
        if self.messages is not None:
            turns = _pairs(self.messages)
            return ("conversation", (turns, self.template)) if self.template else ("messages", turns)
        return ("prompt", (self.prompt, self.completion)) if self.text is None else ("text", self.text)


@dataclass(frozen=True, slots=True)
class Comparison:
    """One prompt with K >= 2 answers that people or a model have compared.

    ``prompt``: the turns before the answer, to be rendered with the chat template, or a plain string that is
    joined with the answer as it stands. ``answers``: the content of the closing assistant turn, or the
    completion; or several turns, the first and the last of them the assistant's. ``scores`` (K,): higher is
    better, equal is a tie; only their order counts. ``margin``: by how much the chosen answer of a pair
    should win, in the reward's own unit, where the data say so. ``template``: as in :class:`Example`.
    """

    source: str
    prompt: Turns | str
    answers: tuple[str | Turns, ...]
    scores: tuple[float, ...]
    margin: float | None = None
    template: str = ""

    turns_in: ClassVar[str] = "prompt"

    def stored(self) -> tuple[str, Any]:
        prompt = self.prompt if isinstance(self.prompt, str) else _pairs(self.prompt)
        answers = [answer if isinstance(answer, str) else _pairs(answer) for answer in self.answers]
        stored = (prompt, answers, self.scores, self.margin)
        return "comparison", (*stored, self.template) if self.template else stored


@dataclass(frozen=True, slots=True)
class LabelledAnswer:
    """One prompt with one answer, and whether that is desirable.

    ``prompt``, ``answer`` and ``template`` as in :class:`Comparison`.
    """

    source: str
    prompt: Turns | str
    answer: str
    desirable: bool
    template: str = ""

    turns_in: ClassVar[str] = "prompt"

    def stored(self) -> tuple[str, Any]:
        prompt = self.prompt if isinstance(self.prompt, str) else _pairs(self.prompt)
        stored = (prompt, self.answer, self.desirable)
        return "labelled answer", (*stored, self.template) if self.template else stored


@dataclass(frozen=True, slots=True)
class LabelledText:
    """A text, or a pair of texts, and the name of its class."""

    source: str
    text: str
    pair: str | None
    label: str

    turns_in: ClassVar[str] = ""

    def stored(self) -> tuple[str, Any]:
        return "labelled", (self.text, self.pair, self.label)


def answer_turns(answer: str | Turns) -> Turns:
    """The turns of a compared answer."""
    return (Message("assistant", answer),) if isinstance(answer, str) else answer


AnyExample = Example | Comparison | LabelledAnswer | LabelledText


def from_stored(source: str, kind: str, value: Any) -> AnyExample:
    """The example at ``source`` of which ``stored`` gave ``kind`` and ``value``, lists for tuples.

    Raises ValueError for an unknown kind.
    """
    match kind:
        case "messages":
            return Example(source, messages=_turns(value))
        case "conversation":
            return Example(source, messages=_turns(value[0]), template=value[1])
        case "weighted":
            weight, *rest = value
            return replace(cast(Example, from_stored(source, *rest)), weight=weight)
        case "prompt":
            return Example(source, prompt=value[0], completion=value[1])
        case "text":
            return Example(source, text=value)
        case "comparison":
            prompt, answers, scores, margin, *template = value
            given = tuple(map(_prompt, answers))
            return Comparison(source, _prompt(prompt), given, tuple(scores), margin, *template)
        case "labelled answer":
            prompt, *rest = value
            return LabelledAnswer(source, _prompt(prompt), *rest)
        case "labelled":
            return LabelledText(source, *value)
    raise ValueError(f"unknown kind of example: {kind!r}")


def _pairs(turns: Turns) -> list[tuple[Any, ...]]:
    """Role and content of each turn; all its fields where it has more."""
    return [
        (turn.role, turn.content, turn.extra, turn.trained)
        if turn.extra or not turn.trained
        else (turn.role, turn.content)
        for turn in turns
    ]


def _turns(stored: Sequence[Sequence[Any]]) -> Turns:
    return tuple(Message(*fields) for fields in stored)


def _prompt(stored: Any) -> Turns | str:
    return stored if isinstance(stored, str) else _turns(stored)
