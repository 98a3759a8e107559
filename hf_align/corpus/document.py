"""A document, what a step says of it, and the thresholds that rules compare with."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

from hf_align.corpus import text_units

NO_THRESHOLD = math.nan


@dataclass(frozen=True)
class Document:
    """One text with its place in the sources and everything else that is known of it.

    ``id``: place in its source, such as ``pages.jsonl:12``. ``source``: path as in the recipe. ``columns``:
    other columns of the row, and what steps have added (``language``, ``language_score``).

    Words, lines and paragraphs are computed once, when a rule asks for them.
    """

    id: str
    text: str
    source: str = ""
    columns: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def words(self) -> list[str]:
        return text_units.words(self.text)

    @cached_property
    def lines(self) -> list[str]:
        return text_units.lines(self.text)

    @cached_property
    def paragraphs(self) -> list[str]:
        return text_units.paragraphs(self.text)

    @property
    def language(self) -> str | None:
        """What the step ``language`` found, or the row's own column of that name."""
        found = self.columns.get("language")
        return found if isinstance(found, str) else None

    def changed(self, verdict: Verdict) -> Document:
        """The document with the text and the columns of a verdict."""
        if verdict.text is None and not verdict.columns:
            return self
        text = self.text if verdict.text is None else verdict.text
        return dataclasses.replace(self, text=text, columns={**self.columns, **verdict.columns})


class Reason(NamedTuple):
    """A rule that a document breaks: what it measured, and what that was compared with."""

    rule: str
    value: float
    threshold: float


@dataclass(frozen=True)
class Verdict:
    """What a step says of a document.

    ``keep``: whether it stays. ``reason``: the rule that removed it, ``value``: what it measured,
    ``threshold``: what that was compared with; NaN where there is no number. ``text``: the edited text, None
    where it stays as it is. ``columns``: new columns. ``values``: what every rule measured, by rule.
    ``edits``: how often each kind of edit was made. ``reasons``: every rule that is broken.
    """

    keep: bool = True
    reason: str = ""
    value: float = math.nan
    threshold: float = NO_THRESHOLD
    text: str | None = None
    columns: Mapping[str, Any] = field(default_factory=dict)
    values: Mapping[str, float] = field(default_factory=dict)
    edits: Mapping[str, int] = field(default_factory=dict)
    reasons: tuple[Reason, ...] = ()


KEPT = Verdict()
Step = Callable[[Document], Verdict]


@dataclass(frozen=True)
class Rule:
    """A measured value and the range in which a document stays: from ``low`` to ``high``, ends included
    unless ``strict``."""

    name: str
    value: float
    low: float = -math.inf
    high: float = math.inf
    strict: bool = False

    @property
    def broken(self) -> float | None:
        """The threshold that ``value`` is beyond, or None."""
        if self.value < self.low or (self.strict and self.value == self.low):
            return self.low
        if self.value > self.high or (self.strict and self.value == self.high):
            return self.high
        return None


def judge(rules: Iterable[Rule]) -> Verdict:
    """The first rule that is broken removes the document; all values are kept for the report."""
    values: dict[str, float] = {}
    reasons: list[Reason] = []
    for rule in rules:
        values[rule.name] = rule.value
        threshold = rule.broken
        if threshold is not None:
            reasons.append(Reason(rule.name, rule.value, threshold))
    if not reasons:
        return Verdict(values=values)
    first = reasons[0]
    return Verdict(False, first.rule, first.value, first.threshold, values=values, reasons=tuple(reasons))
