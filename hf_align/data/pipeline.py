"""One source as a stream of kept rows: read, convert, tokenise, judge, count.

Shared by the prepared and the streaming path, and by rows with one answer and rows that compare several: what
a source yields follows from its encoder. Spreading the work over processes is the business of
``workers``. Limits on shares of bad rows are checked by the functions at the end; when they are called is up
to the caller.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from hf_align.data.chat import Encoder
from hf_align.data.comparison_encoding import ComparisonEncoder
from hf_align.data.conversion import with_system_prompt
from hf_align.data.formats import COMPARISON_FORMATS, FORMATS, Table, converter, resolve_format
from hf_align.data.lengths import Row, cut_row, sequence_length, untrainable
from hf_align.data.raw import MalformedRow, RawRow
from hf_align.data.report import SHOWN_PROBLEMS, SourceReport, counted_kinds
from hf_align.data.seq2seq import Seq2SeqEncoder
from hf_align.data.sources import read_rows
from hf_align.errors import UserError
from hf_align.types import Comparison, Example, TokenizedRow

if TYPE_CHECKING:
    from hf_align.config import DataConfig, DatasetConfig

KeptRow = tuple[Row, Example | Comparison]

_ROWS_SEEN_FOR_DETECTION = 50
_ROWS_TOKENIZED_TOGETHER = 256
_CHARACTERS_TOKENIZED_TOGETHER = 500_000


@dataclass(frozen=True)
class Source:
    """One entry of a recipe's data sets with all that reading it takes; reading fills ``report``."""

    dataset: DatasetConfig
    data: DataConfig
    encoder: Encoder | ComparisonEncoder | Seq2SeqEncoder
    report: SourceReport


@dataclass(frozen=True)
class RowJob:
    """All it takes to turn raw rows of one source into kept rows; may be sent to another process."""

    format: str
    columns: dict[str, str]
    data: DataConfig
    encoder: Encoder | ComparisonEncoder | Seq2SeqEncoder

    def kept(self, chunk: Iterable[RawRow], report: SourceReport) -> Iterator[KeptRow]:
        """The usable rows of a chunk in order, each with its example; every row is counted in ``report``."""
        read = converter(self.format, self.columns, formats_for(self.encoder))
        convert = partial(_convert, read, self.data.system_prompt)
        examples = _converted(chunk, convert, report)
        for example, row in zip(examples, self.encoder.encode(examples), strict=True):
            if isinstance(row, MalformedRow):
                report.add_malformed(example.source, str(row), row.kind)
                continue
            fitted = _fitted(row, self.data, report)
            if fitted is not None:
                yield fitted, example


def formats_for(encoder: Encoder | ComparisonEncoder | Seq2SeqEncoder) -> Table:
    """The formats of the rows that an encoder takes."""
    return COMPARISON_FORMATS if isinstance(encoder, ComparisonEncoder) else FORMATS


def open_source(source: Source, *, streaming: bool = False) -> tuple[RowJob, Iterator[list[RawRow]]]:
    """(what turns its rows into kept rows, its rows in chunks); the format is noted in the report.

    Errors: ``UserError`` from the reader and the detection of the format.
    """
    dataset = source.dataset
    raw = read_rows(dataset, streaming=streaming)
    first = list(islice(raw, _ROWS_SEEN_FOR_DETECTION))
    formats = formats_for(source.encoder)
    source.report.format, _ = resolve_format(
        dataset.format, dataset.columns, first, where=dataset.path, formats=formats
    )
    job = RowJob(source.report.format, dataset.columns, source.data, source.encoder)
    return job, _chunks(chain(first, raw))


def kept_rows(source: Source, *, streaming: bool = False) -> Iterator[KeptRow]:
    """The usable rows of a source in order, each with its example; every row read is counted.

    With ``overlong: error`` the overlong rows are counted and not yielded: the caller raises
    ``check_overlong`` when it has seen as many as it wants to report. Duplicates are not looked for.

    Errors: ``UserError`` from the reader, the detection of the format, and the tokenizer.
    """
    job, chunks = open_source(source, streaming=streaming)
    for chunk in chunks:
        yield from job.kept(chunk, source.report)


def _chunks(rows: Iterator[RawRow]) -> Iterator[list[RawRow]]:
    """The rows in lists of so many, fewer where they are long, so that a list takes bounded memory."""
    chunk: list[RawRow] = []
    size = 0
    for row in rows:
        chunk.append(row)
        size += _size(row.values)
        if len(chunk) == _ROWS_TOKENIZED_TOGETHER or size >= _CHARACTERS_TOKENIZED_TOGETHER:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _size(value: Any) -> int:
    """Characters of text in a decoded JSON value, about."""
    size, waiting = 0, [value]
    while waiting:  # not by recursion: a value may be nested as deeply as Python's json goes
        item = waiting.pop()
        if isinstance(item, str):
            size += len(item)
        elif isinstance(item, dict):
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)
        else:
            size += 1
    return size


def _convert(convert: Callable[[RawRow], Any], system_prompt: str | None, row: RawRow) -> Any:
    return with_system_prompt(convert(row), system_prompt)


def _converted(chunk: Iterable[RawRow], convert: Callable[[RawRow], Any], report: SourceReport) -> list[Any]:
    examples = []
    for row in chunk:
        report.read += 1
        try:
            examples.append(convert(row))
        except MalformedRow as problem:
            report.add_malformed(row.place, str(problem), problem.kind)
    return examples


def _fitted(row: Row, data: DataConfig, report: SourceReport) -> Row | None:
    """The row cut or refused by length and targets, counted; None where it is not kept."""
    length = sequence_length(row)
    report.add_length(length, row.source)
    cut = length > data.max_length
    if cut:
        report.overlong += 1
        if data.overlong != "truncate":
            report.dropped += 1
            return None
        row = cut_row(row, data.max_length)
    reason = untrainable(row)
    if reason:
        report.no_target += 1
        if len(report.unanswered) < SHOWN_PROBLEMS:
            if cut and isinstance(row, TokenizedRow):
                reason = f"its targets begin after token {data.max_length}"
            elif cut:
                reason += f" up to token {data.max_length}"
            report.unanswered.append(f"{row.source}: {reason}")
        return None
    report.kept += 1
    report.truncated += cut
    report.tokens += len(row)
    report.target_tokens += row.target_tokens
    return row


def check_shares(report: SourceReport, data: DataConfig, *, settable: bool = True) -> None:
    """Raise ``UserError`` where too many rows of a source are malformed or have no target.

    ``settable``: whether the limits are keys of the recipe, which the message then names.
    """
    if report.malformed > data.max_malformed_share * report.read:
        kinds = f" ({counted_kinds(report)})" if report.malformed_kinds else ""
        limit = data.max_malformed_share
        allowed = f"max_malformed_share = {limit:g} allows" if settable else f"{limit:.0%}"
        raise UserError(
            f"{report.name}: {report.malformed} of {report.read} rows are malformed{kinds}, more than "
            f"{allowed}. The first:\n"
            + "\n".join(f"  {problem}" for problem in report.problems)
            + "\nMend or remove them"
            + (", or raise `max_malformed_share`." if settable else ".")
        )
    if report.no_target > data.max_untrained_share * report.read:
        raise UserError(
            f"{report.name}: {report.no_target} of {report.read} rows have no token to train on, more than "
            f"max_untrained_share = {data.max_untrained_share:g} allows. The first:\n"
            + "\n".join(f"  {place}" for place in report.unanswered)
            + (
                "\nRaise `max_length` where rows were truncated, or raise `max_untrained_share`."
                if settable
                else ""
            )
        )


def check_overlong(reports: Iterable[SourceReport], data: DataConfig) -> None:
    """Raise ``UserError`` where ``overlong: error`` and a row is longer than ``max_length``."""
    affected = [report for report in reports if report.overlong]
    if data.overlong != "error" or not affected:
        return
    longest = max(affected, key=lambda report: report.longest)
    counts = "; ".join(f"{report.name}: {report.overlong} of {report.read} rows" for report in affected)
    suggested = -(-longest.longest // 64) * 64
    raise UserError(
        f"overlong: rows are longer than max_length = {data.max_length} tokens ({counts}). The longest has "
        f"{longest.longest} tokens, at {longest.longest_place}. Set `max_length: {suggested}` to keep them "
        "all, `overlong: drop` to leave them out, or `overlong: truncate` to cut them."
    )
