"""Reads CSV, Parquet and plain text files row by row, with the place of each row.

CSV is comma-separated with a header line; a quoted field may span lines, and a row is named by the line on
which it starts. A quote that is never closed takes the rest of the file with it, so that is an error of the
file. In plain text each line that is not blank is one document.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from hf_align.data.reading.json_files import read_lines, refuse_wide_encodings, utf8_problem
from hf_align.data.reading.raw import RawRow, printable
from hf_align.errors import UserError

# Python's csv refuses fields over 128 KiB; a document in a field is often longer.
_LONGEST_CSV_FIELD = 2**31 - 1


def read_txt(path: Path) -> Iterator[RawRow]:
    """One row ``{"text": line}`` for each line that is not blank."""
    for number, line in read_lines(path):
        place = f"{path}:{number}"
        try:
            yield RawRow(place, {"text": line.decode("utf-8")})
        except UnicodeDecodeError as error:
            yield RawRow(place, None, utf8_problem(error))


def read_csv(path: Path) -> Iterator[RawRow]:
    """Rows of a CSV file; a row whose number of fields differs from the header's is malformed.

    Errors: ``UserError`` where the header is broken, has an empty name, or names a column twice, and where a
    quote swallows all rows behind it.
    """
    with path.open("rb") as file:
        refuse_wide_encodings(path, file.read(4))
    csv.field_size_limit(_LONGEST_CSV_FIELD)
    # Invalid UTF-8 becomes lone surrogates, which make only their own row malformed.
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        reader = csv.reader(file, strict=True)
        try:
            header = next(reader, None)
        except csv.Error as error:
            raise UserError(f"{path}:1: the header line is not valid CSV: {error}.") from error
        if header is None:
            return
        _check_header(path, header)
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


def _check_header(path: Path, header: list[str]) -> None:
    if not any(name.strip() for name in header):
        raise UserError(f"{path}:1: the first line must name the columns; it is blank.")
    for name in header:
        if not name.strip():
            names = printable(", ".join(header))
            raise UserError(f"{path}:1: the header has a column without a name: {names}.")
        if header.count(name) > 1:
            raise UserError(f"{path}:1: the header names the column '{printable(name)}' twice.")


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
