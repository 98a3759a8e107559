"""Reads JSON Lines and JSON files row by row and keeps the line on which each row starts.

A broken line of a JSON Lines file is one malformed row. A JSON array that breaks off has no readable
rest, so that is an error of the file. Invalid UTF-8 inside a JSON array is kept as lone surrogates, which
make only the row that holds them malformed. Other encodings are refused, not guessed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hf_align.data.reading.opening import open_bytes
from hf_align.data.reading.raw import RawRow, row_from_value
from hf_align.errors import UserError

# An object at the top of a .json file is a table when one of these keys holds a list, else it is a row.
_TABLE_KEYS = ("data", "rows", "examples", "instances", "items", "train")
_SPLITS = ("train", "training", "test", "validation", "valid", "val", "dev", "eval")
_BLANK = re.compile(r"[ \t\n\r]*")
_UTF8_BOM = b"\xef\xbb\xbf"
_WIDE_BOMS = (b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")
_DECODER = json.JSONDecoder()


def refuse_wide_encodings(path: Path, head: bytes) -> None:
    """Raise ``UserError`` when a file starts with the byte-order mark of UTF-16 or UTF-32."""
    if head.startswith(_WIDE_BOMS):
        raise UserError(f"{path}: the file is encoded as UTF-16 or UTF-32; expected UTF-8. Save it as UTF-8.")


def read_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """(line number from 1, content without its line end and byte-order mark) of each line that is not blank.

    Lines end with LF or CRLF only: the Unicode separators U+2028 and U+0085 may stand inside a row.
    """
    with open_bytes(path) as file:
        for number, line in enumerate(file, start=1):
            if number == 1:
                refuse_wide_encodings(path, line)
                line = line.removeprefix(_UTF8_BOM)
            line = line.removesuffix(b"\n").removesuffix(b"\r")
            if line.strip():
                yield number, line


def utf8_problem(error: UnicodeDecodeError) -> str:
    """The reason shown for a line that is not UTF-8."""
    return f"not valid UTF-8: byte 0x{error.object[error.start]:02X} at byte {error.start + 1} of the line"


def read_jsonl(path: Path) -> Iterator[RawRow]:
    """Rows of a JSON Lines file, one object a line; blank lines are no rows."""
    for number, line in read_lines(path):
        place = f"{path}:{number}"
        try:
            value = json.loads(line.decode("utf-8"))
        except UnicodeDecodeError as error:
            yield RawRow(place, None, utf8_problem(error))
        except (ValueError, RecursionError) as error:
            yield RawRow(place, None, f"broken JSON: {_json_problem(error)}")
        else:
            yield row_from_value(place, value)


def read_json(path: Path, split: str = "train") -> Iterator[RawRow]:
    """Rows of a .json file: an array of objects, an object that holds one, one row, or JSON Lines.

    Of an object with several splits (``{"train": [...], "test": [...]}``) those of ``split``. Errors:
    ``UserError`` with file and line where the JSON of the file as a whole is broken, and for a split that is
    not there.
    """
    with open_bytes(path) as file:
        content = file.read()
    refuse_wide_encodings(path, content[:4])
    text = content.removeprefix(_UTF8_BOM).decode("utf-8", "surrogateescape")
    del content
    start = _skip_blank(text, 0)
    if start == len(text):
        return
    if text[start] == "[":
        yield from _array_rows(path, text, start)
        return
    if text[start] != "{":
        raise _broken(path, text, start, f"expected an array or an object, found {text[start]!r}")
    try:
        value, end = _DECODER.raw_decode(text, start)
    except (ValueError, RecursionError) as error:
        if _looks_like_lines(text, start):
            yield from read_jsonl(path)
            return
        raise _broken(path, text, getattr(error, "pos", start), _json_problem(error)) from error
    if _skip_blank(text, end) < len(text):  # more than one value: JSON Lines under another name
        yield from read_jsonl(path)
        return
    table = _table_of(path, value, split)
    if table is None:
        yield RawRow(f"{path}:{_line(text, start)}", value)
        return
    del value
    yield from _array_rows(path, text, _find_table(text, start, table), nested=True)


def _table_of(path: Path, value: dict[str, Any], split: str) -> str | None:
    """The key of the list whose elements are the rows, or None where the object is a row itself."""
    splits = [key for key in value if key in (*_SPLITS, split) and isinstance(value[key], list)]
    if split in splits:
        return split
    if splits and (split != "train" or len(splits) > 1):
        raise UserError(f"{path}: the file has no split '{split}'; its splits are: {', '.join(splits)}.")
    return next((key for key in (*_TABLE_KEYS, *splits) if isinstance(value.get(key), list)), None)


def _array_rows(path: Path, text: str, start: int, nested: bool = False) -> Iterator[RawRow]:
    """Rows of the array whose ``[`` stands at ``start``; decodes one element at a time."""
    index, counted, line = _skip_blank(text, start + 1), 0, 1
    if text[index : index + 1] != "]":
        while True:
            line += text.count("\n", counted, index)
            counted = index
            try:
                value, end = _DECODER.raw_decode(text, index)
            except (ValueError, RecursionError) as error:
                raise _broken(path, text, getattr(error, "pos", index), _json_problem(error)) from error
            yield row_from_value(f"{path}:{line}", value)
            index = _skip_blank(text, end)
            following = text[index : index + 1]
            if following == "]":
                break
            if following != ",":
                found = repr(following) if following else "the end of the file"
                raise _broken(path, text, index, f"expected ',' or ']' after a row, found {found}")
            index = _skip_blank(text, index + 1)
    rest = _skip_blank(text, index + 1)
    if not nested and rest < len(text):
        raise _broken(path, text, rest, "expected the end of the file after the array")


def _find_table(text: str, start: int, table: str) -> int:
    """Where the list of key ``table`` starts in the (valid) object at ``start``."""
    index, found = _skip_blank(text, start + 1), -1
    while text[index] != "}":
        key, index = _DECODER.raw_decode(text, index)
        index = _skip_blank(text, _skip_blank(text, index) + 1)
        if key == table:
            found = index  # a repeated key counts in its last place, as it does for Python's json
        _, index = _DECODER.raw_decode(text, index)
        index = _skip_blank(text, index)
        if text[index] == ",":
            index = _skip_blank(text, index + 1)
    return found


def _looks_like_lines(text: str, start: int) -> bool:
    """Whether text that is no single JSON value reads like JSON Lines: a line holds an object of its own."""
    for line in text[start : start + 1_000_000].split("\n", 100)[:100]:
        try:
            value: Any = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict) and value:
            return True
    return False


def _skip_blank(text: str, index: int) -> int:
    match = _BLANK.match(text, index)
    return match.end() if match else index


def _line(text: str, index: int) -> int:
    return text.count("\n", 0, index) + 1


def _json_problem(error: ValueError | RecursionError) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at column {error.colno}"
    return "nested too deeply" if isinstance(error, RecursionError) else str(error)


def _broken(path: Path, text: str, index: int, problem: str) -> UserError:
    return UserError(
        f"{path}:{_line(text, index)}: broken JSON: {problem}. Nothing after it can be read; fix the file, "
        "or store one object a line (.jsonl), where a broken line costs only itself."
    )
