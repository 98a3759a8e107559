"""The row formats: which columns each has, how one is detected, and how its columns are resolved.

Detection looks at the columns of the first readable rows. ``columns`` of a recipe maps a canonical name to
the name that the file uses. How the values of a row become an ``Example`` is in ``conversion``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from hf_align.data import conversion
from hf_align.data.raw import MalformedRow, RawRow, printable
from hf_align.errors import UserError, did_you_mean
from hf_align.types import Example


@dataclass(frozen=True, slots=True)
class RowFormat:
    """Canonical columns of a format, and the function that turns their values into an ``Example``."""

    required: tuple[str, ...]
    optional: tuple[str, ...]
    convert: Callable[[str, dict[str, Any]], Example]

    @property
    def columns(self) -> tuple[str, ...]:
        return self.required + self.optional


# In the order in which detection tries them: rows often carry a flat copy of what the richer column holds.
FORMATS: dict[str, RowFormat] = {
    "messages": RowFormat(("messages",), (), conversion.from_messages),
    "sharegpt": RowFormat(("conversations",), ("system",), conversion.from_sharegpt),
    "alpaca": RowFormat(("instruction", "output"), ("input", "system", "history"), conversion.from_alpaca),
    "prompt_completion": RowFormat(("prompt", "completion"), (), conversion.from_prompt_completion),
    "baize": RowFormat(("input",), (), conversion.from_baize),
    "text": RowFormat(("text",), (), conversion.from_text),
}
_BAIZE_MARKER = re.compile(r"\[\|(Human|AI)\|\]")


def resolve_format(
    name: str, columns: dict[str, str], first_rows: Sequence[RawRow], *, where: str
) -> tuple[str, Callable[[RawRow], Example]]:
    """(format name, converter) for a source whose first rows are given.

    ``name`` is a key of ``FORMATS`` or ``auto``; ``where`` names the source in errors. The converter raises
    ``MalformedRow`` for a row that it cannot use.

    Errors: ``UserError`` where none of the rows is readable, where no format fits, where ``columns`` has a
    key that the format lacks, or where a needed or mapped column is in none of the rows.
    """
    samples = [row.values for row in first_rows if row.values is not None]
    if not samples:
        shown = "; ".join(f"{row.place}: {row.problem}" for row in first_rows[:3])
        raise UserError(f"{where}: none of the first {len(first_rows)} rows is readable. {shown}")
    found = list(dict.fromkeys(printable(str(key)) for values in samples for key in values))
    if name == "auto":
        name = _detect(samples, columns, found, where)
    _check_columns(name, columns, found, where)
    return name, converter(name, columns)


def converter(name: str, columns: dict[str, str]) -> Callable[[RawRow], Example]:
    """The function that turns the rows of a format into examples; made of values that a process can send."""
    row_format = FORMATS[name]
    source_column = {canonical: columns.get(canonical, canonical) for canonical in row_format.columns}

    def convert(row: RawRow) -> Example:
        if row.values is None:
            raise MalformedRow(row.problem)
        for canonical in row_format.required:
            if source_column[canonical] not in row.values:
                raise MalformedRow(f"has no '{source_column[canonical]}'")
        return row_format.convert(
            row.place, {canonical: row.values.get(column) for canonical, column in source_column.items()}
        )

    return convert


def _detect(samples: list[dict[str, Any]], columns: dict[str, str], found: list[str], where: str) -> str:
    for canonical in columns:
        _known_column(
            canonical, [column for row_format in FORMATS.values() for column in row_format.columns], where
        )
    for name, row_format in FORMATS.items():
        if not set(columns) <= set(row_format.columns):
            continue
        if not all(columns.get(canonical, canonical) in found for canonical in row_format.required):
            continue
        if name == "baize" and not _has_baize_markers(samples, columns.get("input", "input")):
            continue
        return name
    needs = "; ".join(f"{name}: {', '.join(row_format.required)}" for name, row_format in FORMATS.items())
    mapped = f" with `columns: {columns}`" if columns else ""
    raise UserError(
        f"{where}: the columns{mapped} fit no known format. Found: {', '.join(found) or 'none'}. "
        f"The formats and the columns they need: {needs}. "
        "Name the columns of this source, for example `columns: {prompt: question, completion: answer}`."
    )


def _has_baize_markers(samples: list[dict[str, Any]], column: str) -> bool:
    texts = (values.get(column) for values in samples)
    return any(isinstance(text, str) and _BAIZE_MARKER.search(text) for text in texts)


def _known_column(canonical: str, valid: Sequence[str], where: str) -> None:
    if canonical not in valid:
        unique = list(dict.fromkeys(valid))
        raise UserError(
            f"{where}: `columns` maps '{canonical}', which is no column of the format; "
            f"expected {', '.join(unique)}." + did_you_mean(canonical, unique)
        )


def _check_columns(name: str, columns: dict[str, str], found: list[str], where: str) -> None:
    row_format = FORMATS[name]
    for canonical in columns:
        _known_column(canonical, row_format.columns, where)
    for canonical in (*row_format.required, *(column for column in row_format.optional if column in columns)):
        actual = columns.get(canonical, canonical)
        if actual not in found:
            named = f" (mapped to '{canonical}' by `columns`)" if canonical in columns else ""
            raise UserError(
                f"{where}: the format {name} needs the column '{actual}'{named}, which is missing. "
                f"Found: {', '.join(found) or 'none'}." + did_you_mean(actual, found)
            )
