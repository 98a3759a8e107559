"""What a reader yields: one row of a source, or the reason why a row could not be read.

Readers never raise for a single bad row: they yield its place and what is wrong with it, so that it is
counted and shown. They raise ``UserError`` where the file as a whole cannot be read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RawRow:
    """One row of a source: ``values`` (column name to value), or ``problem`` where it is unreadable.

    ``place`` says where the row stands, for example ``data/orders.jsonl:12`` (a line) or
    ``train.parquet:row 12`` (both counted from 1).
    """

    place: str
    values: dict[str, Any] | None
    problem: str = ""


class MalformedRow(ValueError):
    """A row that cannot be used; the message is the reason that the data report shows.

    ``kind``: a few words under which the report counts rows with the same trouble; empty where it counts them
    with all others.
    """

    def __init__(self, reason: str, kind: str = "") -> None:
        super().__init__(reason)
        self.kind = kind


class UnlabelledRow(MalformedRow):
    """A row that its data set leaves without a class; it is left out and counted by itself."""


def tried(make: Callable[..., T], *arguments: Any) -> T | MalformedRow:
    """What ``make`` returns, or the ``MalformedRow`` that it raises."""
    try:
        return make(*arguments)
    except MalformedRow as problem:
        return problem


def printable(text: str) -> str:
    """The text with lone surrogates written as escapes, so that any terminal and file takes it."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


_KINDS = {
    dict: "an object",
    list: "a list",
    str: "a string",
    bool: "true or false",
    int: "a number",
    float: "a number",
}


def kind_of(value: Any) -> str:
    """The kind of a JSON value in words: ``an object``, ``a list``, ``a string``, ``null``, …"""
    return "null" if value is None else _KINDS.get(type(value), f"a value of type {type(value).__name__}")


def row_from_value(place: str, value: Any) -> RawRow:
    """A decoded JSON value as a row; anything but an object is a problem of that row."""
    if isinstance(value, dict):
        return RawRow(place, value)
    return RawRow(place, None, f"expected an object with named columns, found {kind_of(value)}")
