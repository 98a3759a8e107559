"""Rows of compared answers as files have them, and what they become."""

from __future__ import annotations

from typing import Any

from hf_align.data.conversion.detection import resolve_format
from hf_align.data.conversion.formats import COMPARISON_FORMATS
from hf_align.data.reading.raw import RawRow
from hf_align.types import Comparison, Message


def convert(row: dict[str, Any], name: str = "auto", columns: dict[str, str] | None = None) -> Comparison:
    """What the format ``name`` makes of ``row``; with ``auto``, the format that its columns fit."""
    raw = RawRow("f:1", row)
    conversion = resolve_format(name, columns or {}, [raw], where="f", formats=COMPARISON_FORMATS)
    return conversion(raw)


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def bot(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def turn(sender: str, text: str) -> dict[str, str]:
    """A turn as ShareGPT writes it."""
    return {"from": sender, "value": text}


HH = "\n\nHuman: q\n\nAssistant: "
U, B = user("q"), bot("b")
S = {"role": "system", "content": "s"}
Q = (Message("user", "q"),)
SQ = (Message("system", "s"), *Q)
LONG = (Message("user", "p"), Message("assistant", "r"), *Q)


def pair(prompt: Any, better: str = "a", worse: str = "b", margin: float | None = None) -> Comparison:
    """What a row of two answers becomes."""
    return Comparison("f:1", prompt, (better, worse), (1.0, 0.0), margin)
