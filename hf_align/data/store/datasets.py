"""The prepared rows of one source: in memory where it is small, else in files that are mapped and kept.

Files are kept in the cache (``dataset_cache_dir``) under a key that stands for all they depend on
(``fingerprint``), together with the report on the source, so that a later run with the same data starts at
once. With ``dataset_cache: false`` they last as long as the process.
"""

from __future__ import annotations

import os
import tempfile
from array import array
from collections.abc import Iterator
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hf_align.data.pipeline import DataSource, open_source
from hf_align.data.report import SourceReport
from hf_align.data.store import cache
from hf_align.data.store.fingerprint import Files, files_of, source_key
from hf_align.data.store.flat_rows import Arrays, FlatRows, in_memory, map_files, write_files
from hf_align.data.store.workers import default_processes, flat_rows_of, prepare_chunks
from hf_align.errors import UserError

SMALL_BYTES = 1 << 20
"""A source up to this size is prepared in about the time that it takes to look it up."""
_FEW_ROWS = 2000
_LENGTHS = "lengths.bin"
# What a source is called, and what it is for, are the recipe's to say.
_NOT_STORED = ("name", "role", "lengths", "others")
_WITH_PLACE = ("longest_place", "problems", "unanswered")


def stored_rows(source: DataSource, *, keep_examples: bool) -> FlatRows:
    """The kept rows of a source; its report is filled. Duplicates are counted, limits are not checked.

    ``keep_examples``: whether ``FlatRows.example`` will be asked for.

    Errors: ``UserError`` from the reader, the detection of the format, and the tokenizer; where rows cannot
    be written.
    """
    files = files_of(source.dataset)
    kind = source.encoder.rows
    if _is_small(source, files):
        show = os.environ.get("RANK", "0") == "0"
        pieces = _pieces(source, files.prefix, keep_examples, processes=1, show=show)
        rows = in_memory(pieces, files.prefix, kind)
        source.report.duplicates = count_duplicates(rows.digests)
        return rows
    folder = cache.writable_folder(source.data.dataset_cache_dir) if source.data.dataset_cache else None
    if folder is None or not files.paths:
        return _for_this_process(source, files, keep_examples)
    before = files.stamps()
    key = source_key(
        source.dataset,
        source.data,
        source.encoder,
        files,
        keep_examples=keep_examples,
        asked=source.asked,
    )
    if key is None:
        return _for_this_process(source, files, keep_examples)

    def make(part: Path) -> cache.Facts:
        # Whichever process makes the entry is the only one to do so, and shows how far it is.
        return _write(source, files, part, keep_examples, show=True)

    def read(entry: Path, facts: cache.Facts) -> FlatRows:
        _restore(source.report, entry, facts, files.prefix)
        return map_files(entry, files.prefix, kind)

    def unchanged() -> bool:
        try:
            return files.stamps() == before
        except OSError:  # gone
            return False

    return cache.open_or_make(folder, key, make=make, read=read, still_valid=unchanged)


def _is_small(source: DataSource, files: Files) -> bool:
    few = source.dataset.max_rows is not None and source.dataset.max_rows <= _FEW_ROWS
    return few or (bool(files.paths) and files.size <= SMALL_BYTES)


def _for_this_process(source: DataSource, files: Files, keep_examples: bool) -> FlatRows:
    """The rows in files that are gone, but for this process, as soon as they are mapped."""
    show = os.environ.get("RANK", "0") == "0"
    with tempfile.TemporaryDirectory(prefix="hf_align-", ignore_cleanup_errors=True) as folder:
        try:
            _write(source, files, Path(folder), keep_examples, show=show)
        except OSError as error:
            raise UserError(
                f"Prepared rows cannot be written to {folder}: {error.strerror or error}. Make room there, "
                "or set the environment variable TMPDIR to another folder."
            ) from error
        return map_files(Path(folder), files.prefix, source.encoder.rows)


def _pieces(
    source: DataSource, prefix: str, keep_examples: bool, *, processes: int, show: bool
) -> Iterator[Arrays]:
    job, chunks = open_source(source)
    work = partial(flat_rows_of, job, prefix, keep_examples)
    return prepare_chunks(work, chunks, source.report, processes=processes, show=show)


def _write(source: DataSource, files: Files, folder: Path, keep_examples: bool, *, show: bool) -> cache.Facts:
    processes = source.data.dataset_num_proc or default_processes()
    pieces = _pieces(source, files.prefix, keep_examples, processes=processes, show=show)
    write_files(pieces, folder)
    report = source.report
    report.duplicates = count_duplicates(map_files(folder, files.prefix).digests)
    np.asarray(report.lengths).astype("<i8").tofile(folder / _LENGTHS)
    kept = {field.name: getattr(report, field.name) for field in fields(report)}
    for name in _NOT_STORED:
        del kept[name]
    for name in _WITH_PLACE:
        kept[name] = _mapped(kept[name], lambda place: place.removeprefix(files.prefix))
    return kept


def _restore(report: SourceReport, entry: Path, facts: cache.Facts, prefix: str) -> None:
    """Fill a report with what ``_write`` returned for the source."""
    for name, value in facts.items():
        setattr(report, name, _mapped(value, lambda place: prefix + place) if name in _WITH_PLACE else value)
    lengths: array[int] = array("L")
    lengths.frombytes(np.fromfile(entry / _LENGTHS, "<i8").astype(f"u{lengths.itemsize}").tobytes())
    report.lengths = lengths


def _mapped(value: Any, change: Any) -> Any:
    """A place or each of several changed; an empty place stays empty."""
    return [change(place) for place in value] if isinstance(value, list) else value and change(value)


def count_duplicates(digests: npt.NDArray[np.uint64]) -> int:
    """How many rows have the ids of an earlier row; ``digests`` as ``FlatRows.digests``."""
    words = np.sort(digests[:, 0])
    repeated = np.unique(words[1:][words[1:] == words[:-1]])
    # Few rows, as a rule: only these are compared by both words.
    candidates = digests[np.isin(digests[:, 0], repeated), :2].tolist()
    return len(candidates) - len(set(map(tuple, candidates)))
