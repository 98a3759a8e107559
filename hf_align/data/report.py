"""The data report: what became of every row of every source, and how long the rows are.

For each source: read = kept + malformed + dropped as overlong + without a target + unlabelled + repeated and
left out. Nothing leaves a data set
without being counted here. How rows are judged is in ``pipeline``.
"""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hf_align.data.conversion.columns import TEMPLATE_COLUMNS, number_of, unread
from hf_align.errors import without_controls
from hf_align.runs.columns import aligned

SHOWN_PROBLEMS = 5
PERCENTILES = (50, 90, 99)
_COUNTS = (
    "read",
    "kept",
    "malformed",
    "overlong",
    "dropped",
    "truncated",
    "no_target",
    "unlabelled",
    "repeated",
    "tokens",
    "target_tokens",
)


@dataclass
class SourceReport:
    """Counts of one source, in rows unless a name says tokens. ``role`` is ``train`` or ``eval``.

    ``overlong``: rows longer than ``max_length``, of which ``dropped`` were left out and ``truncated`` were
    cut (a row that was cut and has no target left counts under ``no_target`` only). ``tokens`` and
    ``target_tokens`` are those of kept rows. ``duplicates``: kept rows with the tokens of an earlier one;
    None where nobody looked for them, as in a stream; ``repeated``: rows that were left out since an earlier
    one, of this source or of one before it, teaches the same. ``unlabelled``: rows that the data set itself
    leaves without a class. ``lengths``: tokens of every well-formed row, before
    any cut.
    ``problems`` and ``unanswered`` keep the first malformed rows and the first rows without a target.
    ``malformed_kinds``: malformed rows by the kind of trouble that comparisons can have, such as identical
    answers; malformed rows of no such kind are not in it.

    ``columns`` and ``ignored``: in how many rows each column was read, or was there and is not read; a key of
    turns that is not read counts as ``messages[].key``. ``others``: what those columns are to the stage.
    ``changed``: what was done to rows because the recipe asks for it, in rows.

    A row that compares answers has the length of its longest sequence; its ``tokens`` count what the
    sequences share once.
    """

    name: str
    role: str = "train"
    format: str = ""
    read: int = 0
    kept: int = 0
    malformed: int = 0
    overlong: int = 0
    dropped: int = 0
    truncated: int = 0
    no_target: int = 0
    unlabelled: int = 0
    repeated: int = 0
    tokens: int = 0
    target_tokens: int = 0
    duplicates: int | None = None
    longest: int = 0
    longest_place: str = ""
    problems: list[str] = field(default_factory=list)
    unanswered: list[str] = field(default_factory=list)
    malformed_kinds: dict[str, int] = field(default_factory=dict)
    columns: dict[str, int] = field(default_factory=dict)
    ignored: dict[str, int] = field(default_factory=dict)
    others: str = "columns that are not read"
    changed: dict[str, int] = field(default_factory=dict)
    lengths: array[int] = field(default_factory=lambda: array("L"))

    def add_malformed(self, place: str, reason: str, kind: str = "") -> None:
        """Count a malformed row, also by its kind where it has one, and keep it if it is among the first."""
        self.malformed += 1
        if kind:
            self.malformed_kinds[kind] = self.malformed_kinds.get(kind, 0) + 1
        if len(self.problems) < SHOWN_PROBLEMS:
            self.problems.append(f"{place}: {reason}")

    def add_columns(self, values: Mapping[str, Any], read: Collection[str]) -> None:
        """Count the columns of a row, ``read`` being those that its format reads."""
        for name, value in values.items():
            weighs = name == "weight" and number_of(value) is not None
            if name in read or name in TEMPLATE_COLUMNS or weighs:
                self.columns[name] = self.columns.get(name, 0) + 1
        for name in unread(values, read):
            self.ignored[name] = self.ignored.get(name, 0) + 1

    def add_changes(self, changes: Iterable[str]) -> None:
        """Count a row to which these things were done."""
        for change in changes:
            self.changed[change] = self.changed.get(change, 0) + 1

    def add_length(self, length: int, place: str) -> None:
        """Note the length in tokens of a well-formed row."""
        self.lengths.append(length)
        if length > self.longest:
            self.longest, self.longest_place = length, place

    def add(self, later: SourceReport) -> None:
        """Count the rows of ``later``, a report on the rows that follow those counted so far."""
        for name in _COUNTS:
            setattr(self, name, getattr(self, name) + getattr(later, name))
        if later.longest > self.longest:
            self.longest, self.longest_place = later.longest, later.longest_place
        self.problems = (self.problems + later.problems)[:SHOWN_PROBLEMS]
        self.unanswered = (self.unanswered + later.unanswered)[:SHOWN_PROBLEMS]
        self.malformed_kinds = _added([self, later])
        for name in ("columns", "ignored", "changed"):
            mine: dict[str, int] = getattr(self, name)
            for counted, rows in getattr(later, name).items():
                mine[counted] = mine.get(counted, 0) + rows
        self.lengths.extend(later.lengths)

    def clear(self) -> None:
        """Set every count back, for another pass over the source."""
        vars(self).update(vars(SourceReport(self.name, self.role, self.format)))

    def to_dict(self) -> dict[str, Any]:
        """The counts with length percentiles, JSON-able."""
        return {
            "name": self.name,
            "role": self.role,
            "format": self.format,
            **_counts([self]),
            "problems": list(self.problems),
            "unanswered": list(self.unanswered),
            "columns": dict(self.columns),
            "ignored": dict(self.ignored),
            "changed": dict(self.changed),
        }


@dataclass
class DataReport:
    """The reports of all sources and what was made of their rows.

    ``train_rows``: rows of an epoch after held-out rows left and small sources were repeated (None for a
    stream, whose end is unknown). ``mixture``: rows of an epoch by training source. ``leaked``: held-out or
    evaluation rows whose tokens are also those of a training row. ``fingerprint`` changes when any training
    or evaluation row, its mask or its place in the order does (empty for a stream).
    """

    sources: list[SourceReport] = field(default_factory=list)
    train_rows: int | None = None
    eval_rows: int = 0
    held_out: int = 0
    leaked: int = 0
    mixture: list[int] = field(default_factory=list)
    fingerprint: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Everything in the report as JSON-able values."""
        return {
            "sources": [source.to_dict() for source in self.sources],
            "total": _counts(self.sources),
            "train_rows": self.train_rows,
            "eval_rows": self.eval_rows,
            "held_out": self.held_out,
            "leaked": self.leaked,
            "mixture": list(self.mixture),
            "fingerprint": self.fingerprint,
        }

    def summary(self) -> str:
        """A table for the terminal: a line a source, a total, then what needs attention."""
        header = "source|use|format|read|kept|malformed|dropped|truncated|no target|duplicate|tokens|targets"
        table = [(*header.split("|"), "p50", "p90", "p99", "max")]
        for source in self.sources:
            table.append((source.name, source.role, source.format, *_cells(_counts([source]))))
        if len(self.sources) > 1:
            table.append(("total", "", "", *_cells(_counts(self.sources))))
        lines = [*aligned(table, text_columns=3), "", self._rows_line()]
        for source in self.sources:
            if source.ignored:
                lines.append(f"{source.name}: {source.others}: {counted_columns(source)}")
            lines += [f"{source.name}: {rows:,} rows: {change}" for change, rows in source.changed.items()]
            if source.malformed:
                kinds = f" ({counted_kinds(source)})" if source.malformed_kinds else ""
                lines.append(f"{source.name}: {source.malformed} malformed{kinds}, the first:")
                lines += [f"  {problem}" for problem in source.problems]
            if source.unlabelled:
                lines.append(f"{source.name}: {source.unlabelled:,} without a class are left out")
            if source.repeated:
                lines.append(f"{source.name}: {source.repeated:,} repeats of earlier rows are left out")
            if source.no_target:
                lines.append(f"{source.name}: {source.no_target} without a target, the first:")
                lines += [f"  {place}" for place in source.unanswered]
        if self.leaked:
            lines.append(f"{self.leaked} evaluation rows are exact copies of training rows.")
        return without_controls("\n".join(lines))

    def _rows_line(self) -> str:
        training = "a stream of" if self.train_rows is None else f"{self.train_rows:,}"
        training += " training rows"
        if len(self.mixture) > 1:
            training += f" an epoch ({' + '.join(f'{rows:,}' for rows in self.mixture)})"
        held_out = f" ({self.held_out:,} held out of the training data)" if self.held_out else ""
        return f"{training}, {self.eval_rows:,} evaluation rows{held_out}"


def counted_columns(source: SourceReport) -> str:
    """The columns that are not read: ``id, split (12 of 400 rows)``."""
    return ", ".join(
        name if rows == source.read else f"{name} ({rows:,} of {source.read:,} rows)"
        for name, rows in source.ignored.items()
    )


def counted_kinds(source: SourceReport) -> str:
    """The malformed rows of a source by kind: ``3 identical answers, 1 other``."""
    kinds = [f"{count:,} {kind}" for kind, count in source.malformed_kinds.items()]
    other = source.malformed - sum(source.malformed_kinds.values())
    return ", ".join([*kinds, *([f"{other:,} other"] if other else [])])


def _added(sources: Sequence[SourceReport]) -> dict[str, int]:
    """Malformed rows of all sources by kind."""
    added: dict[str, int] = {}
    for source in sources:
        for kind, count in source.malformed_kinds.items():
            added[kind] = added.get(kind, 0) + count
    return added


def _counts(sources: Sequence[SourceReport]) -> dict[str, Any]:
    counts: dict[str, Any] = {name: sum(getattr(source, name) for source in sources) for name in _COUNTS}
    repeated = [source.duplicates for source in sources]
    counts["duplicates"] = None if None in repeated else sum(number or 0 for number in repeated)
    counts["malformed_kinds"] = _added(sources)
    known = [np.asarray(source.lengths).astype(np.int64) for source in sources]
    lengths = np.concatenate([np.zeros(0, np.int64), *known])
    if not len(lengths):
        return counts | {"lengths": {}}
    values = np.percentile(lengths, PERCENTILES, method="higher")
    percentiles = {f"p{p}": int(value) for p, value in zip(PERCENTILES, values, strict=True)}
    return counts | {"lengths": percentiles | {"max": int(lengths.max())}}


def _cells(counts: dict[str, Any]) -> Iterable[str]:
    for name in ("read", "kept", "malformed", "dropped", "truncated", "no_target", "duplicates", "tokens"):
        yield "-" if counts[name] is None else f"{counts[name]:,}"
    yield f"{counts['target_tokens']:,}"
    for name in ("p50", "p90", "p99", "max"):
        yield f"{counts['lengths'][name]:,}" if counts["lengths"] else "-"
