"""CSV, Parquet and text files: rows with the lines on which they start, and what breaks a row or the file."""

from __future__ import annotations

from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from hf_align.data.reading.tables import TextUnit, read_csv, read_parquet, read_txt
from hf_align.errors import UserError

UNITS: tuple[TextUnit, ...] = ("line", "paragraph", "file")


def write(folder: Path, content: str | bytes) -> Path:
    path = folder / "f"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_quoted_fields_span_lines_and_rows_keep_their_first(tmp_path: Path) -> None:
    path = write(tmp_path, '\ufeffa,b\n1,"x\ny"\n\n2,"say ""hi"""\n3\n')
    found = list(read_csv(path))
    assert [row.values for row in found[:2]] == [{"a": "1", "b": "x\ny"}, {"a": "2", "b": 'say "hi"'}]
    assert [row.place.rpartition(":")[2] for row in found] == ["2", "5", "6"]
    assert found[2].problem == "expected 2 fields as in the header, found 1"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,a\n1,2", "names the column 'a' twice"),
        ("a,,b\n1,2,3", "a column without a name: a, , b"),
        (" ,\n", "must name the columns; it is blank"),
        ('a,b\n1,2\n3,"x\n4,5\n6,7\n', r"f:3: the row that begins here has a quote that is never closed"),
        (b"\xff\xfea", "UTF-16"),
    ],
)
def test_tables_that_cannot_be_read(tmp_path: Path, content: str | bytes, message: str) -> None:
    with pytest.raises(UserError, match=message):
        list(read_csv(write(tmp_path, content)))
    assert list(read_csv(write(tmp_path, ""))) == []


def test_lines_of_text(tmp_path: Path) -> None:
    found = list(read_txt(write(tmp_path, b"one\n\n  \ntwo \r\n\xff\n")))
    assert [row.values for row in found] == [{"text": "one"}, {"text": "two "}, None]
    assert found[1].place.endswith(":4") and "not valid UTF-8" in found[2].problem


def test_parquet_rows_are_numbered(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"a": list(range(1500))}), path)
    found = list(read_parquet(path))
    assert len(found) == 1500 and found[-1].place == f"{path}:row 1500" and found[-1].values == {"a": 1499}
    with pytest.raises(UserError, match="not readable as Parquet"):
        list(read_parquet(write(tmp_path, "a,b")))


TEXT = "\nOne line.\nAnother line.\n\n\nThe second\nblock\n"


def test_documents_of_a_text_file_by_line_block_or_file(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_text(TEXT)
    found = {
        unit: [(row.place.rpartition(":")[2], row.values) for row in read_txt(path, unit)] for unit in UNITS
    }
    assert [place for place, _ in found["line"]] == ["2", "3", "6", "7"]
    assert found["paragraph"] == [
        ("2", {"text": "One line.\nAnother line."}),
        ("6", {"text": "The second\nblock"}),
    ]
    assert found["file"] == [("2", {"text": "One line.\nAnother line.\n\nThe second\nblock"})]


def test_a_block_that_is_no_utf8_is_malformed_alone(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_bytes(b"a\n\xff\n\nb\n")
    first, second = read_txt(path, "paragraph")
    assert first.values is None and first.problem == "not valid UTF-8: byte 0xFF"
    assert second.values == {"text": "b"}


def test_wrapped_lines_are_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    book, list_ = tmp_path / "book.txt", tmp_path / "list.txt"
    book.write_text(
        "It was a night on which nobody would have gone\nout without need, and the rain fell.\n" * 150
    )
    list_.write_text("a whole sentence that ends.\nanother one that ends as well.\n" * 150)
    assert len(list(read_txt(book))) == len(list(read_txt(list_))) == 300
    (record,) = caplog.records
    assert "book.txt" in record.getMessage() and "text_unit: paragraph" in record.getMessage()
