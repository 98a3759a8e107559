"""One source as a stream of kept rows: read, convert, tokenise, judge, count.

Shared by the prepared and the streaming path, and by rows of every kind: what a source yields follows from
its encoder. Spreading the work over processes is the business of ``workers``. Limits on shares of bad rows
are checked by the functions at the end; when they are called is up to the caller.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hf_align.data.conversion.columns import refuse_weight
from hf_align.data.conversion.detection import open_rows
from hf_align.data.conversion.formats import PROMPT_FORMATS, Conversion
from hf_align.data.conversion.reshaping import reshaped
from hf_align.data.encoding import RowEncoder
from hf_align.data.reading.raw import MalformedRow, RawRow, UnlabelledRow
from hf_align.data.report import SHOWN_PROBLEMS, SourceReport, counted_kinds
from hf_align.errors import UserError
from hf_align.types import Example

if TYPE_CHECKING:
    from hf_align.config import DataConfig, DatasetConfig

KeptRow = tuple[Any, Any]
"""A row of the encoder's kind, and its example."""

WEIGHTED = "weighed by their column weight"
WEIGHT_0 = "left out, their weight is 0"
WEIGHT_UNUSED = "with a weight, which counts only where rows are trained"
_ROWS_TOKENIZED_TOGETHER = 256
_CHARACTERS_TOKENIZED_TOGETHER = 500_000


@dataclass(frozen=True)
class DataSource:
    """One entry of a recipe's data sets with all that reading it takes; reading fills ``report``.

    ``asked``: its rows are answered by a model, so that a row may be a prompt alone.
    """

    dataset: DatasetConfig
    data: DataConfig
    encoder: RowEncoder
    report: SourceReport
    asked: bool = False


@dataclass(frozen=True)
class RowJob:
    """All it takes to turn raw rows of one source into kept rows; may be sent to another process."""

    convert: Conversion
    encoder: RowEncoder
    data: DataConfig
    asked: bool = False

    def kept(self, chunk: Iterable[RawRow], report: SourceReport) -> Iterator[KeptRow]:
        """The usable rows of a chunk in order, each with its example; every row is counted in ``report``."""
        examples = self._converted(chunk, report)
        for example, row in zip(examples, self.encoder.encode(examples), strict=True):
            if isinstance(row, MalformedRow):
                report.add_malformed(example.source, str(row), row.kind)
                continue
            fitted = self._fitted(row, example, report)
            if fitted is not None:
                yield fitted, example

    def _converted(self, chunk: Iterable[RawRow], report: SourceReport) -> list[Any]:
        examples = []
        read = self.convert.read_columns()
        for row in chunk:
            report.read += 1
            report.add_columns(row.values or {}, read)
            try:
                self._check_size(row)
                example, changes = reshaped(self.convert(row), self.data)
                if example_weight(example) != 1:
                    changes += self._weighed(example)
                report.add_changes(changes)
                examples.append(example)
            except UnlabelledRow:
                report.unlabelled += 1
            except MalformedRow as problem:
                report.add_malformed(row.place, str(problem), problem.kind)
        return examples

    def _weighed(self, example: Example) -> tuple[str, ...]:
        """What becomes of the weight of an example; raises ``MalformedRow`` where it cannot be obeyed."""
        if self.asked:
            return (WEIGHT_UNUSED,)
        if not self.encoder.weighs:
            refuse_weight(example.weight)
        return (WEIGHTED if example.weight else WEIGHT_0,)

    def _check_size(self, row: RawRow) -> None:
        """Raise ``MalformedRow`` for a row with more text than may be tokenised at once: that takes some 300
        bytes of memory for each character, whatever ``overlong`` says of the tokens."""
        characters = 0 if row.values is None else _size(row.values)
        limit = self.data.max_row_characters
        if characters > limit:
            raise MalformedRow(
                f"has {characters:,} characters, more than max_row_characters = {limit:,} allows; split it, "
                "or raise the key",
                "too many characters",
            )

    def _fitted(self, row: Any, example: Any, report: SourceReport) -> Any:
        """The row cut or refused by length and targets, counted; None where it is not kept."""
        length, limit = max(row.lengths), self.data.max_length
        report.add_length(length, row.source)
        cut = length > limit
        if cut:
            report.overlong += 1
            if self.data.overlong != "truncate":
                report.dropped += 1
                return None
            row = self.encoder.cut(row, example, limit)
        reason = row.untrainable(limit if cut else None)
        if reason and self.data.target_patterns and not cut:
            reason = "train_on matches nothing in what is trained"
        if example_weight(example) == 0 and not self.asked:
            report.no_target += 1
            return None
        if reason and not (self.asked and not example.answered):
            report.no_target += 1
            if len(report.unanswered) < SHOWN_PROBLEMS:
                report.unanswered.append(f"{row.source}: {reason}")
            return None
        report.kept += 1
        report.truncated += cut
        report.tokens += len(row)
        report.target_tokens += row.target_tokens
        return row


def example_weight(example: Any) -> float:
    """What a row counts; 1 where that kind of rows has no weights."""
    return example.weight if isinstance(example, Example) else 1.0


def open_source(source: DataSource, *, streaming: bool = False) -> tuple[RowJob, Iterator[list[RawRow]]]:
    """(what turns its rows into kept rows, its rows in chunks); the format is noted in the report.

    Errors: ``UserError`` from the reader and the detection of the format.
    """
    convert, rows = open_rows(
        source.dataset,
        PROMPT_FORMATS if source.asked else source.encoder.formats,
        streaming=streaming,
        system_prompt=source.data.system_prompt,
        template_options=source.data.chat_template_kwargs,
    )
    source.report.format = convert.format
    return RowJob(convert, source.encoder, source.data, source.asked), _chunks(rows)


def kept_rows(source: DataSource, *, streaming: bool = False) -> Iterator[KeptRow]:
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
            + "\nFix or remove them"
            + (", or raise `max_malformed_share`." if settable else ".")
        )
    left_out = report.changed.get(WEIGHT_0, 0)
    if report.no_target - left_out > data.max_untrained_share * report.read:
        raise UserError(
            f"{report.name}: {report.no_target - left_out} of {report.read} rows have no token to train on, "
            f"more than max_untrained_share = {data.max_untrained_share:g} allows. The first:\n"
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
