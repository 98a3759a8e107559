"""Rows of data sets in canonical form, before a tokenizer has seen them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation. ``role`` is ``system``, ``user``, ``assistant`` or ``tool``."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Example:
    """One row of a data set in canonical form: exactly one of the three kinds is set.

    ``messages``: a conversation, rendered with the model's chat template.
    ``prompt`` and ``completion``: plain strings, joined without a template.
    ``text``: a plain document, every token of which is a target.
    ``source`` names the place the row came from, for example ``data/orders_en.jsonl:12``.
    """

    source: str
    messages: tuple[Message, ...] | None = None
    prompt: str | None = None
    completion: str | None = None
    text: str | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """One prompt with K >= 2 answers that people or a model have compared.

    ``prompt``: the turns before the answer, to be rendered with the chat template, or a plain string that is
    joined with the answer as it stands. ``answers``: the content of the closing assistant turn, or the
    completion. ``scores`` (K,): higher is better, equal is a tie; only their order counts. ``margin``: by
    how much the better answer of a pair should win, in the reward's own unit, where the data say so.
    """

    source: str
    prompt: tuple[Message, ...] | str
    answers: tuple[str, ...]
    scores: tuple[float, ...]
    margin: float | None = None


@dataclass(frozen=True, slots=True)
class LabelledText:
    """A text, or a pair of texts, and the name of its class."""

    source: str
    text: str
    pair: str | None
    label: str
