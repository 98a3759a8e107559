"""Which format the rows of a source are in, seen by the columns of the first readable ones.

``columns`` of a recipe maps a canonical name to the name that the file uses. The formats are in ``formats``.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from hf_align.data.conversion.formats import (
    COMPARISON_FORMATS,
    FORMATS,
    LABEL,
    LABELLED_FORMATS,
    STAGES,
    UNPAIRED_FORMATS,
    Conversion,
    OtherStageError,
    RowFormat,
    Table,
)
from hf_align.data.conversion.source_tools import tools_of_source
from hf_align.data.reading.class_labels import class_names
from hf_align.data.reading.raw import RawRow, printable
from hf_align.data.reading.sources import read_rows
from hf_align.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from hf_align.config import DatasetConfig

Samples = Sequence[Mapping[str, Any]]


_ROWS_SEEN_FOR_DETECTION = 50


def open_rows(
    dataset: DatasetConfig,
    *tables: Table,
    streaming: bool = False,
    system_prompt: str | None = None,
    template_options: Mapping[str, Any] | None = None,
) -> tuple[Conversion, Iterator[RawRow]]:
    """(what makes examples of the rows of a source, all its rows in order).

    The first of ``tables`` that takes the rows counts. Errors: ``UserError`` from the reader, and as
    ``resolve_format`` raises it for the last table.
    """
    raw = read_rows(dataset, streaming=streaming)
    first = list(islice(raw, _ROWS_SEEN_FOR_DETECTION))
    tools = tools_of_source(dataset)
    given = {**(template_options or {}), **({"tools": tools} if tools else {})}
    resolve = partial(
        resolve_format,
        *(dataset.format, dataset.columns, first),
        where=dataset.path,
        system_prompt=system_prompt,
        template_options=given,
    )
    *earlier, last = tables
    for table in earlier:
        with contextlib.suppress(OtherStageError):
            return resolve(formats=table), chain(first, raw)
    found = resolve(formats=last)
    if last is LABELLED_FORMATS:
        named = class_names(dataset, streaming=streaming)
        found = replace(found, classes=next((named[key] for key in found.names[LABEL] if key in named), ()))
    return found, chain(first, raw)


def resolve_format(
    name: str,
    columns: dict[str, str],
    first_rows: Sequence[RawRow],
    *,
    where: str,
    formats: Table = FORMATS,
    system_prompt: str | None = None,
    template_options: Mapping[str, Any] | None = None,
) -> Conversion:
    """What makes examples of the rows of a source whose first rows are given.

    ``name`` is a key of ``formats`` or ``auto``; ``where`` names the source in errors.

    Errors: ``UserError`` where none of the rows is readable, where no format fits, where ``columns`` has a
    key that the format lacks, or where a needed or mapped column is in none of the rows; ``OtherStageError``
    where the rows are those of another table.
    """
    samples = [row.values for row in first_rows if row.values is not None]
    if not samples:
        shown = "; ".join(f"{row.place}: {row.problem}" for row in first_rows[:3])
        raise UserError(f"{where}: none of the first {len(first_rows)} rows is readable. {shown}")
    found = list(dict.fromkeys(printable(str(key)) for values in samples for key in values))
    if name == "auto":
        name = _detect(samples, columns, found, where, formats)
    elif name not in formats:
        raise OtherStageError(f"{where}: {_other_stage(f'the format {name}', formats)}")
    _check_columns(formats[name], name, columns, found, where)
    return Conversion(
        name, formats[name], formats[name].names(columns), system_prompt, template_options or {}
    )


def _detect(samples: Samples, columns: dict[str, str], found: list[str], where: str, formats: Table) -> str:
    for canonical in columns:
        known = [
            column
            for table in (*(table for table, _ in STAGES), formats)
            for row_format in table.values()
            for column in row_format.columns
        ]
        _known_column(canonical, known, where)
    own = _fitting(samples, columns, found, formats)
    other = _fitting(samples, columns, found, _other(formats))
    if own is None and formats is UNPAIRED_FORMATS and _fitting(samples, columns, found, COMPARISON_FORMATS):
        advice = "Write a row for each answer (chosen: true, rejected: false), or take the stage dpo."
        raise UserError(f"{where}: the rows compare answers; here each has one answer and a label. {advice}")
    # Rows that compare answers often hold what would do for an example as well, never the other way round.
    compares = formats is FORMATS and other is not None and "rejected" in COMPARISON_FORMATS[other].required
    if other is not None and (own is None or (compares and not columns)):
        # What stands beside compared answers may be learned from where the recipe says so; not their prompt.
        beside = own is not None and not set(formats[own].required) <= set(_other(formats)[other].columns)
        advice = f" To train on what the format {own} reads of them, set `format: {own}`." if beside else ""
        takers = _other_stage("It", formats)
        raise OtherStageError(f"{where}: the rows are in the format {other}. {takers}{advice}")
    if own is not None:
        return own
    needs = "; ".join(f"{name}: {', '.join(row_format.required)}" for name, row_format in formats.items())
    mapped = f" with `columns: {columns}`" if columns else ""
    example = "{instruction: question, output: answer}"
    if formats is COMPARISON_FORMATS:
        example = "{prompt: question, chosen: good, rejected: bad}"
    elif formats is UNPAIRED_FORMATS:
        example = "{prompt: question, completion: answer, label: liked}"
    elif formats is LABELLED_FORMATS:
        example = "{text: sentence, label: class}"
    elif formats is UNPAIRED_FORMATS:
        example = "{prompt: question, completion: answer, label: liked}"
    raise UserError(
        f"{where}: the columns{mapped} fit no known format. Found: {', '.join(found) or 'none'}. "
        f"The formats and the columns they need: {needs}. "
        f"Name the columns of this source, for example `columns: {example}`."
    )


def _fitting(samples: Samples, columns: dict[str, str], found: Sequence[str], formats: Table) -> str | None:
    """The first format whose columns are all there, or None."""
    for name, row_format in formats.items():
        if not set(columns) <= set(row_format.columns) or any(key in found for key in row_format.without):
            continue
        names = row_format.names(columns)
        if not all(any(key in found for key in names[canonical]) for canonical in row_format.required):
            continue
        if row_format.marked is not None:
            column, pattern = row_format.marked
            if not any(_holds(values, names[column], pattern) for values in samples):
                continue
        return name
    return None


def _holds(values: Mapping[str, Any], keys: Sequence[str], pattern: re.Pattern[str]) -> bool:
    texts = (values.get(key) for key in keys)
    return any(isinstance(text, str) and pattern.search(text) for text in texts)


def _other(formats: Table) -> Table:
    return next(table for table, _ in STAGES if table is not formats)


def _other_stage(subject: str, formats: Table) -> str:
    """Who takes the formats of the other table, and which ones this stage takes."""
    taker = next(stage for table, stage in STAGES if table is not formats)
    verb = "stages" if " and " in taker else "stage"
    kind = "compares answers" if formats is FORMATS else "gives one answer to learn from"
    return f"{subject} {kind} and is for the {verb} {taker}; here are read: {', '.join(formats)}."


def _known_column(canonical: str, valid: Sequence[str], where: str) -> None:
    if canonical not in valid:
        unique = list(dict.fromkeys(valid))
        raise UserError(
            f"{where}: `columns` maps '{canonical}', which is no column of the format; "
            f"expected {', '.join(unique)}." + did_you_mean(canonical, unique)
        )


def _check_columns(
    row_format: RowFormat, name: str, columns: dict[str, str], found: list[str], where: str
) -> None:
    for canonical in columns:
        _known_column(canonical, row_format.columns, where)
    names = row_format.names(columns)
    for canonical in (*row_format.required, *(column for column in row_format.optional if column in columns)):
        if not any(key in found for key in names[canonical]):
            actual = names[canonical][0]
            named = f" (mapped to '{canonical}' by `columns`)" if canonical in columns else ""
            raise UserError(
                f"{where}: the format {name} needs the column '{actual}'{named}, which is missing. "
                f"Found: {', '.join(found) or 'none'}." + did_you_mean(actual, found)
            )
