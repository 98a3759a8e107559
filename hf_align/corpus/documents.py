"""The documents of a source, row by row, whatever the form of its rows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from hf_align.corpus.document import Document
from hf_align.data.conversion.detection import open_rows
from hf_align.data.conversion.formats import COMPARISON_FORMATS, FORMATS
from hf_align.data.reading.raw import MalformedRow, RawRow
from hf_align.data.report import SourceReport
from hf_align.types import Comparison, Example

if TYPE_CHECKING:
    from hf_align.config.data import DatasetConfig

_MOST_COLUMNS = 2_000
"""Characters of a further column that is kept with its document."""


def documents_of(dataset: DatasetConfig, report: SourceReport | None = None) -> Iterator[Document]:
    """The documents of one source, in order, with the other columns of their rows.

    Raises UserError where the source cannot be read at all; a row that cannot is counted in ``report``.
    """
    report = report or SourceReport(dataset.path, "train")
    convert, rows = open_rows(dataset, FORMATS, COMPARISON_FORMATS, streaming=True)
    for row in rows:
        report.read += 1
        try:
            example = convert(row)
            text = _text(example)
            text.encode("utf-8")
        except MalformedRow as problem:
            report.add_malformed(row.place, str(problem), problem.kind)
        except UnicodeEncodeError as error:
            report.add_malformed(row.place, f"not encodable as UTF-8: {error.reason}", "encoding")
        else:
            yield Document(row.place, text, dataset.path, _columns(row, text))


def _text(example: Example | Comparison) -> str:
    if isinstance(example, Comparison):
        raise MalformedRow("compared answers are no document")
    if example.messages is not None:
        return "\n\n".join(message.content for message in example.messages)
    return example.text if example.text is not None else f"{example.prompt}{example.completion}"


def _columns(row: RawRow, text: str) -> dict[str, Any]:
    """What else is in the row and fits into JSON; the text itself, and what is long, is left out."""
    found = {}
    for name, value in (row.values or {}).items():
        if value is None or value == text:
            continue
        try:
            size = len(json.dumps(value))
        except (TypeError, ValueError, RecursionError):
            continue
        if size <= _MOST_COLUMNS:
            found[str(name)] = value
    return found
