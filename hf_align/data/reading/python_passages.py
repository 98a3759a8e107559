"""A classification set that every Python carries: which area of the standard library a passage documents.

Passages are cut out of the documents of ``python_docs`` at paragraphs. Six areas of the library are classes
of equal size; no module is on both sides of the split. The same rows on every run of one installation, and a
little other ones from one Python version to another.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

from hf_align.data.reading.python_docs import DocsPage, python_documents
from hf_align.data.reading.raw import RawRow
from hf_align.errors import UserError, did_you_mean

NAME = "python_areas"
"""The name by which a recipe asks for this set, in place of a path."""

CLASSES = ("concurrency", "development", "files", "formats", "interfaces", "internet")
"""Areas of ``python_areas`` that have enough text for both splits."""

SPLITS = ("train", "test", "all")
TRAIN_ROWS, TEST_ROWS = 250, 50
"""Passages of each class."""

SHORTEST, LONGEST = 150, 400
"""Characters of a passage; a paragraph that is longer by itself is cut at a line or a word."""

_MOST_OF_A_MODULE = 12
"""Test passages of one module, so that a class is not tested on one module alone."""


def read_python_areas(split: str = "train") -> Iterator[RawRow]:
    """The rows of a split in an order of no meaning: ``text``, ``label`` (one of ``CLASSES``), ``module``.

    Errors: ``UserError`` at once for another name, and where this installation has no source files or too
    little text in them.
    """
    if split not in SPLITS:
        expected = ", ".join(SPLITS)
        raise UserError(
            f"{NAME}: found the split '{split}', expected one of {expected}.{did_you_mean(split, SPLITS)}"
        )
    train, test = python_passages()
    rows = {"train": train, "test": test, "all": [*train, *test]}[split]
    return iter(sorted(rows, key=lambda row: _rank(row.place)))


def python_passages() -> tuple[list[RawRow], list[RawRow]]:
    """(train, test) rows, ``TRAIN_ROWS`` and ``TEST_ROWS`` of each class.

    Modules are taken in an order drawn from their names until a class has its test rows; the rest is for
    training. Errors: ``UserError`` where a class has too few passages.
    """
    modules: dict[str, dict[str, list[RawRow]]] = {name: {} for name in CLASSES}
    seen: set[str] = set()
    for document in python_documents():
        if document.area not in modules:
            continue
        for row in _passages(document):
            text = row.values["text"] if row.values else ""
            if text not in seen:
                seen.add(text)
                modules[document.area].setdefault(document.module, []).append(row)
    train: list[RawRow] = []
    test: list[RawRow] = []
    for area, found in modules.items():
        mine: dict[str, list[RawRow]] = {"train": [], "test": []}
        for module in sorted(found, key=_rank):
            side = "test" if len(mine["test"]) < TEST_ROWS else "train"
            rows = sorted(found[module], key=lambda row: _rank(row.place))
            mine[side] += rows[:_MOST_OF_A_MODULE] if side == "test" else rows
        for side, wanted in (("train", TRAIN_ROWS), ("test", TEST_ROWS)):
            if len(mine[side]) < wanted:
                raise UserError(
                    f"{NAME}: this installation of Python has {len(mine[side])} passages about {area} for "
                    f"the split {side}, expected {wanted}."
                )
        train += sorted(mine["train"], key=lambda row: _rank(row.place))[:TRAIN_ROWS]
        test += mine["test"][:TEST_ROWS]
    return train, test


def _passages(document: DocsPage) -> Iterator[RawRow]:
    """Neighbouring paragraphs up to ``LONGEST`` characters together; what stays shorter is left out."""
    number = 0
    for text in _joined(_cut(document.text)):
        if len(text) >= SHORTEST:
            number += 1
            values: dict[str, Any] = {"text": text, "label": document.area, "module": document.module}
            yield RawRow(f"{NAME}:{document.module}:{document.part}.{number}", values)


def _cut(text: str) -> Iterator[str]:
    for paragraph in text.split("\n\n"):
        rest = paragraph.strip("\n")
        while len(rest) > LONGEST:
            head = rest[: LONGEST + 1]
            place = next((at for mark in ("\n", " ") if (at := head.rfind(mark)) > 0), LONGEST)
            yield rest[:place].rstrip()
            rest = rest[place:].strip("\n")
        if rest.strip():
            yield rest


def _joined(pieces: Iterator[str]) -> Iterator[str]:
    text = ""
    for piece in pieces:
        if text and len(text) + 2 + len(piece) > LONGEST:
            yield text
            text = ""
        text = f"{text}\n\n{piece}" if text else piece
    if text:
        yield text


def _rank(name: str) -> bytes:
    """A number drawn from a name, the same on every installation."""
    return hashlib.blake2b(name.encode(), digest_size=8, salt=b"areas").digest()
