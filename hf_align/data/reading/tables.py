"""Reads CSV, Parquet and plain text files row by row, with the place of each row.

CSV is comma-separated with a header line; a quoted field may span lines, and a row is named by the line on
which it starts. A quote that is never closed takes the rest of the file with it, so that is an error of the
file. In plain text each line that is not blank is one document.
"""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from hf_align.data.reading.json_files import read_lines, refuse_wide_encodings, utf8_problem
from hf_align.data.reading.opening import open_bytes
from hf_align.data.reading.raw import RawRow, printable
from hf_align.errors import UserError

logger = logging.getLogger(__name__)

_SEPARATORS = (";", "\t", "|", ",")
TextUnit = Literal["line", "paragraph", "file"]

# Python's csv refuses fields over 128 KiB; a document in a field is often longer.
_LONGEST_CSV_FIELD = 2**31 - 1


def read_txt(path: Path, unit: TextUnit = "line") -> Iterator[RawRow]:
    """One row ``{"text": …}`` for each line that is not blank, each block between blank lines, or the file.

    The log says where single lines look like parts of longer texts.
    """
    if unit != "line":
        yield from _text_blocks(path, whole=unit == "file")
        return
    wrapped = _Wrapped(path)
    for number, line in read_lines(path):
        place = f"{path}:{number}"
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError as error:
            yield RawRow(place, None, utf8_problem(error))
        else:
            wrapped.look(number, text)
            yield RawRow(place, {"text": text})


def _text_blocks(path: Path, *, whole: bool) -> Iterator[RawRow]:
    """The file in blocks of neighbouring lines that are not blank, or as one; named by its first line."""
    block: list[bytes] = []
    start = last = 0
    for number, line in read_lines(path):
        if block and number > last + 1:
            if not whole:
                yield _block_row(path, start, block)
                block = []
            else:
                block.append(b"")
        if not block:
            start = number
        block.append(line)
        last = number
    if block:
        yield _block_row(path, start, block)


def _block_row(path: Path, start: int, block: list[bytes]) -> RawRow:
    try:
        return RawRow(f"{path}:{start}", {"text": b"\n".join(block).decode("utf-8")})
    except UnicodeDecodeError as error:
        return RawRow(f"{path}:{start}", None, f"not valid UTF-8: byte 0x{error.object[error.start]:02X}")


class _Wrapped:
    """Whether the lines of a file go on in the next one, as those of a book with hard line breaks do."""

    LINES, SHARE = 200, 0.3

    def __init__(self, path: Path) -> None:
        self.path, self.before, self.number = path, "", 0
        self.seen = self.going_on = 0

    def look(self, number: int, line: str) -> None:
        if self.seen >= self.LINES:
            return
        if number == self.number + 1 and self.before:
            self.seen += 1
            goes_on = self.before[-1].isalpha() or self.before[-1] == ","
            self.going_on += goes_on and line[:1].islower()
        self.before, self.number = line.rstrip(), number
        if self.seen == self.LINES and self.going_on > self.SHARE * self.seen:
            logger.warning(
                "%s: every line is a document of its own, and %d of the first %d go on in the next line; set "
                "text_unit: paragraph (or file) in the entry of this data set if lines are only wrapped",
                *(self.path, self.going_on, self.seen),
            )


def read_csv(path: Path, separator: str = ",") -> Iterator[RawRow]:
    """Rows of a CSV file with this ``separator``; a row whose number of fields differs from the header's is
    malformed.

    Errors: ``UserError`` where the header is broken, has an empty name, or names a column twice, and where a
    quote swallows all rows behind it.
    """
    with open_bytes(path) as file:
        refuse_wide_encodings(path, file.read(4))
    csv.field_size_limit(_LONGEST_CSV_FIELD)
    # Invalid UTF-8 becomes lone surrogates, which make only their own row malformed.
    with io.TextIOWrapper(
        open_bytes(path), encoding="utf-8-sig", errors="surrogateescape", newline=""
    ) as text:
        reader = csv.reader(text, strict=True, delimiter=separator)
        try:
            header = next(reader, None)
        except csv.Error as error:
            raise UserError(f"{path}:1: the header line is not valid CSV: {error}.") from error
        if header is None:
            return
        _check_header(path, header, separator)
        while True:
            start = reader.line_num + 1
            place = f"{path}:{start}"
            try:
                fields = next(reader, None)
            except csv.Error as error:
                yield RawRow(place, None, _csv_problem(path, start, reader.line_num, error))
                continue
            if fields is None:
                return
            if not fields:  # a blank line
                continue
            if len(fields) != len(header):
                yield RawRow(
                    place, None, f"expected {len(header)} fields as in the header, found {len(fields)}"
                )
                continue
            yield RawRow(place, dict(zip(header, fields, strict=True)))


def _csv_problem(path: Path, start: int, last: int, error: csv.Error) -> str:
    """What is wrong with the lines from ``start`` to ``last``, which make one row to the reader."""
    if last == start:
        return f"not valid CSV: {error}"
    if str(error) == "unexpected end of data":
        raise UserError(
            f"{path}:{start}: the row that begins here has a quote that is never closed, so that the "
            f"{last - start} lines behind it cannot be read. Close the quote; one that belongs to the text "
            "is written twice."
        )
    return f"not valid CSV: {error} (in line {last}; a quote may be missing since line {start})"


def _check_header(path: Path, header: list[str], separator: str) -> None:
    if len(header) == 1 and (other := next((mark for mark in _SEPARATORS if mark in header[0]), None)):
        raise UserError(
            f"{path}:1: the header is one column, {printable(header[0])!r}; found no {separator!r} but "
            f"{other!r} in it. Set separator: {other!r} in the entry of this data set."
        )
    if not any(name.strip() for name in header):
        raise UserError(f"{path}:1: the first line must name the columns; it is blank.")
    for name in header:
        if not name.strip():
            names = printable(", ".join(header))
            raise UserError(f"{path}:1: the header has a column without a name: {names}.")
        if header.count(name) > 1:
            raise UserError(f"{path}:1: the header names the column '{printable(name)}' twice.")


def read_arrow(path: Path) -> Iterator[RawRow]:
    """Rows of an Arrow file, of either form (stream, as the datasets library writes it, or file).

    Errors: ``UserError`` where it is not readable as Arrow.
    """
    import pyarrow

    try:
        with pyarrow.memory_map(str(path)) as source:
            number = 0
            for batch in _batches(source):
                for start in range(0, batch.num_rows, 1024):
                    for values in batch.slice(start, 1024).to_pylist():
                        number += 1
                        yield RawRow(f"{path}:row {number}", values)
    except (pyarrow.ArrowException, UnicodeDecodeError, OSError) as error:
        raise UserError(f"{path}: not readable as Arrow: {str(error).strip().splitlines()[0]}") from error


def _batches(source: Any) -> Iterator[Any]:
    import pyarrow.ipc

    if source.read(6) == b"ARROW1":
        source.seek(0)
        file = pyarrow.ipc.open_file(source)
        yield from (file.get_batch(number) for number in range(file.num_record_batches))
    else:
        source.seek(0)
        yield from pyarrow.ipc.open_stream(source)


def read_parquet(path: Path) -> Iterator[RawRow]:
    """Rows of a Parquet file, read in batches. Errors: ``UserError`` where it is not readable as Parquet."""
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            number = 0
            for batch in file.iter_batches(batch_size=1024):
                for values in batch.to_pylist():
                    number += 1
                    yield RawRow(f"{path}:row {number}", values)
    except (pyarrow.ArrowException, UnicodeDecodeError, OSError) as error:
        raise UserError(f"{path}: not readable as Parquet: {str(error).strip().splitlines()[0]}") from error
