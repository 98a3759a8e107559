"""An English corpus that every Python carries: the documentation of the language and its library.

The docstrings of the standard library are read from its source files, and the chapters of the language
reference from ``pydoc_data``; no module is imported. Each document is a part of one module's documentation in
the order of the source, cut between docstrings. About two million characters; a little more or less from one
Python version to another, the same on every run of one installation.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import inspect
import re
import sysconfig
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from hf_align.data.reading.python_areas import REFERENCE, area_of
from hf_align.data.reading.raw import RawRow
from hf_align.errors import UserError, did_you_mean

NAME = "python_docs"
"""The name by which a recipe asks for this corpus, in place of a path."""

SPLITS = ("train", "test", "all")
TEST_SHARE = 0.1
"""Share of the modules that are held out."""

_SPLIT = b"1405"
"""Chosen so that 4 to 16 % of the characters of every area are held out: modules differ much in size."""

LONGEST = 3000
"""Characters of the longest document, about 700 tokens of an English vocabulary."""

_QUOTED = 80
"""Characters from which on a repeated paragraph is a quotation, and not a turn of phrase."""

_TOPICS = "pydoc_data/topics.py"
# Tests, and programs of their own that some systems leave out.
_LEFT_OUT = {"test", "tests", "idlelib", "lib2to3", "site-packages", "dist-packages", "pydoc_data"}
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")


@dataclass(frozen=True)
class DocsPage:
    """``module`` is its full name (``email.message``; of a chapter of the language reference ``topics.`` with
    its name), ``part`` counts from 1 within a module, ``area`` is one of ``python_areas.AREAS``."""

    module: str
    part: int
    area: str
    text: str


def read_python_docs(split: str = "train") -> Iterator[RawRow]:
    """The rows of a split: ``text``, ``module`` and ``area``, in the order of the modules' names.

    ``all`` is both splits. Errors: ``UserError`` at once for another name, and where this installation has no
    source files.
    """
    if split not in SPLITS:
        expected = ", ".join(SPLITS)
        raise UserError(
            f"{NAME}: found the split '{split}', expected one of {expected}.{did_you_mean(split, SPLITS)}"
        )
    documents = python_documents()
    return (
        RawRow(
            f"{NAME}:{document.module}:{document.part}",
            {"text": document.text, "module": document.module, "area": document.area},
        )
        for document in documents
        if split == "all" or is_held_out(document.module) == (split == "test")
    )


def is_held_out(module: str) -> bool:
    """Whether a module is in the split ``test``; decided by its name alone, so alike on every installation.

    All parts of a module are in one split.
    """
    digest = hashlib.blake2b(module.encode(), digest_size=8, salt=_SPLIT).digest()
    return int.from_bytes(digest, "big") < TEST_SHARE * 2**64


def source_files(folder: Path | None = None) -> list[Path]:
    """The source files of the standard library in ``folder``, in order.

    Errors: ``UserError`` where there are none, as in an installation from a zip archive or of bytecode alone.
    """
    folder = folder or Path(sysconfig.get_path("stdlib"))
    files = {}
    for path in folder.rglob("*.py"):
        name = path.relative_to(folder)
        parts = name.with_suffix("").parts
        # A folder such as config-3.11-x86_64-linux-gnu holds no modules.
        if _LEFT_OUT.isdisjoint(parts) and all(part.isidentifier() for part in parts):
            files[name.as_posix()] = path
    topics = folder / _TOPICS
    if not files or not topics.is_file():
        missing = topics if files else folder / "*.py"
        raise UserError(
            f"{NAME}: this Python has no source files of its standard library ({missing} is missing; it may "
            "be installed from a zip archive or without sources). Use another installation, or name a text "
            "file in place of python_docs."
        )
    return [*(files[name] for name in sorted(files)), topics]


def python_documents(folder: Path | None = None) -> Sequence[DocsPage]:
    """All documents, those of the library first; ``folder``: where the library lies, if not where it is here.

    No text occurs twice. Errors: as ``source_files``.
    """
    return _documents(folder or Path(sysconfig.get_path("stdlib")))


@functools.cache
def _documents(folder: Path) -> tuple[DocsPage, ...]:
    seen: set[Any] = set()
    found = []
    for path in source_files(folder):
        try:
            tree = ast.parse(path.read_bytes())
        except (OSError, SyntaxError, ValueError):
            continue  # a template or a file for another version, which documents nothing that can be read
        if path == folder / _TOPICS:
            for name, text in _topics(tree):
                found += _cut(f"topics.{name}", REFERENCE, _new([text], seen))
        else:
            module = _module_name(path.relative_to(folder))
            found += _cut(module, area_of(module), _new(_docstrings(tree), seen))
    return tuple(found)


def _module_name(path: PurePath) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def _docstrings(tree: ast.Module) -> Iterator[str]:
    """The docstrings of a module, its classes and its functions, in the order of the source."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node, clean=False)
            if text:
                yield text
        waiting.extend(reversed(list(ast.iter_child_nodes(node))))


def _topics(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """The chapters in ``pydoc_data``: the one dictionary of strings that the file assigns."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
            chapters = ast.literal_eval(node.value)
            yield from sorted((str(name).replace(" ", "_"), str(text)) for name, text in chapters.items())


def _new(texts: Iterator[str] | list[str], seen: set[Any]) -> list[str]:
    """The cleaned texts of at least two words without what an earlier one has said, white space aside.

    What is left out: texts that an earlier one equals, and paragraphs of some length that it holds. Chapters
    of the reference quote each other, and would bring text that is trained on into the held-out split.
    """
    kept = []
    for text in texts:
        paragraphs = []
        for paragraph in clean(text).split("\n\n"):
            words = " ".join(paragraph.split())
            if len(words) < _QUOTED:
                paragraphs.append(paragraph)
            elif words not in seen:
                seen.add(words)
                paragraphs.append(paragraph)
        whole = "\n\n".join(paragraphs)
        words = tuple(whole.split())  # not the form of a paragraph, which would take itself for seen
        if len(words) > 1 and words not in seen:
            seen.add(words)
            kept.append(whole)
    return kept


def clean(text: str) -> str:
    """The text without common indent, control characters, spaces at line ends and repeated empty lines."""
    text = inspect.cleandoc(text.replace("\r\n", "\n"))
    text = _CONTROL.sub(" ", text).encode("utf-8", "replace").decode()
    text = "\n".join(line.rstrip() for line in text.split("\n"))
    return re.sub(r"\n{3,}", "\n\n", text).strip("\n")


def _cut(module: str, area: str, texts: Sequence[str]) -> list[DocsPage]:
    """The texts joined to documents of up to ``LONGEST`` characters; only longer texts are cut within."""
    parts: list[str] = []
    for text in texts:
        for piece in _pieces(text):
            if parts and len(parts[-1]) + 2 + len(piece) <= LONGEST:
                parts[-1] += "\n\n" + piece
            else:
                parts.append(piece)
    return [DocsPage(module, number, area, part) for number, part in enumerate(parts, start=1)]


def _pieces(text: str) -> Iterator[str]:
    """A text in pieces of up to ``LONGEST`` characters, cut at the last paragraph, else line, else word."""
    while len(text) > LONGEST:
        head = text[: LONGEST + 1]
        place = next((at for mark in ("\n\n", "\n", " ") if (at := head.rfind(mark)) > 0), LONGEST)
        yield text[:place].rstrip()
        text = text[place:].lstrip("\n")
    if text.strip():
        yield text
