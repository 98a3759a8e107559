"""Turns the values of one row into a ``LabelledText``, one function a format; as in ``answers``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hf_align.data.conversion.turns import read_text, refuse_empty
from hf_align.data.reading.raw import MalformedRow, UnlabelledRow, kind_of
from hf_align.types import LabelledText


def from_text(place: str, values: dict[str, Any]) -> LabelledText:
    """``text`` and ``label``."""
    return LabelledText(place, _text(values["text"], "text"), None, read_label(values["label"]))


def from_pair(place: str, values: dict[str, Any]) -> LabelledText:
    """``sentence1``, ``sentence2`` and ``label``."""
    first, second = _text(values["sentence1"], "sentence1"), _text(values["sentence2"], "sentence2")
    return LabelledText(place, first, second, read_label(values["label"]))


def read_label(value: Any) -> str:
    """The name of a label: a text without white space at its ends, or a whole number written out.

    Raises MalformedRow for anything else.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return _text(value, "label").strip()
    raise MalformedRow(f"label: expected a text or a whole number, found {kind_of(value)}")


def class_name(value: Any, names: Sequence[str]) -> Any:
    """The name of a class whose number the value is; a name stays.

    Raises UnlabelledRow for what stands for no class, -1 and null; MalformedRow for another number.
    """
    if value is None or (value == -1 and not isinstance(value, bool)):
        raise UnlabelledRow("label: the row has no class")
    if isinstance(value, bool) or not isinstance(value, int):
        return value
    if not 0 <= value < len(names):
        raise MalformedRow(f"label: found {value}; the data set names the classes 0 to {len(names) - 1}")
    return names[value]


def _text(value: Any, column: str) -> str:
    text = read_text(value, column)
    refuse_empty(text, column)
    return text
