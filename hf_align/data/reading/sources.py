"""Opens the source that a recipe names and yields its rows, each with its place.

A source is a file (json, jsonl, csv, tsv, parquet, arrow, txt, compressed or not), several by a pattern, a
folder of such files (taken in the order of their names, with those in sub-folders that are not hidden; of a
folder with splits those of one), a folder of ``save_to_disk``, an address, the documentation of Python by the
name ``python_docs``, passages of it with their area by the name ``python_areas``, or a data set on a hub;
what is here comes before what has the same name elsewhere. Reading is lazy: no reader but the one for .json,
which needs the file's text, holds more than a small batch of rows. What the columns mean is the business of
``formats``.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from hf_align.config.local_paths import check_source, is_address
from hf_align.data.reading import python_docs, python_passages
from hf_align.data.reading.json_files import read_json, read_jsonl
from hf_align.data.reading.opening import COMPRESSED, fetched, kind_of
from hf_align.data.reading.raw import RawRow
from hf_align.data.reading.splits import DEFAULT, files_of_split, saved_files
from hf_align.data.reading.tables import read_arrow, read_csv, read_parquet, read_txt
from hf_align.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from hf_align.config import DatasetConfig

READERS: dict[str, Callable[[Path], Iterator[RawRow]]] = {
    ".json": read_json,
    ".jsonl": read_jsonl,
    ".ndjson": read_jsonl,
    ".csv": read_csv,
    ".tsv": partial(read_csv, separator="\t"),
    ".parquet": read_parquet,
    ".arrow": read_arrow,
    ".txt": read_txt,
}
_WHOLE = (".parquet", ".arrow")
"""Formats with a compression of their own; they are read from place to place."""
_PATTERN = re.compile(r"[*?\[]")
_OF_PYTHON: dict[str, Callable[[str], Iterator[RawRow]]] = {
    python_docs.NAME: python_docs.read_python_docs,
    python_passages.NAME: python_passages.read_python_areas,
}


def read_rows(dataset: DatasetConfig, *, streaming: bool = False) -> Iterator[RawRow]:
    """The first ``max_rows`` rows of a source (all where that is None), unreadable ones included, behind
    ``skip_rows`` that are left out.

    ``streaming`` matters for a hub id only: rows are fetched while they are used, and nothing is stored.

    Errors: ``UserError`` at once where the path leads nowhere or has an unknown extension; while iterating
    where a file is empty or unreadable, or the hub fails.
    """
    if is_python_docs(dataset):
        if dataset.name is not None:
            raise UserError(f"{dataset.path}: found the name '{dataset.name}', but it has no configurations.")
        return _chosen(_OF_PYTHON[dataset.path](dataset.split), dataset)
    files = local_files(dataset)
    rows = _hub_rows(dataset, streaming) if files is None else _rows_of_files(files, dataset)
    return _chosen(rows, dataset)


def _chosen(rows: Iterator[RawRow], dataset: DatasetConfig) -> Iterator[RawRow]:
    return islice(_behind(rows, dataset) if dataset.skip_rows else rows, dataset.max_rows)


def _behind(rows: Iterator[RawRow], dataset: DatasetConfig) -> Iterator[RawRow]:
    skipped = sum(1 for _ in islice(rows, dataset.skip_rows))
    first = next(rows, None)
    if first is None:
        raise UserError(f"{dataset.path}: skip_rows leaves nothing of its {skipped} rows.")
    yield first
    yield from rows


def local_files(dataset: DatasetConfig) -> list[Path] | None:
    """The files that a source consists of, in order, or None for a data set on a hub.

    Those of ``python_docs`` and ``python_areas`` are the source files of the standard library.

    Errors: ``UserError`` where the path leads nowhere, has an unknown extension, or is a folder without files
    of a known type.
    """
    if not is_python_docs(dataset):
        check_source(dataset.path)
    if is_address(dataset.path):
        path = fetched(dataset.path, _remote_folder())
        _check_file(path, dataset)
        return [path]
    path = Path(os.path.expanduser(dataset.path))
    if path.is_dir():
        return _folder_files(path, dataset)
    if path.exists():
        _check_file(path, dataset)
        return [path]
    if _PATTERN.search(dataset.path):
        return _matching(str(path), dataset)
    if is_python_docs(dataset):
        return python_docs.source_files()
    return None


def is_python_docs(dataset: DatasetConfig) -> bool:
    """Whether a source is made of what Python carries: so is its name, and nothing here is called so."""
    return dataset.path in _OF_PYTHON and not Path(dataset.path).exists()


def hub_files(dataset: DatasetConfig) -> list[Path]:
    """The files in which the hub's client keeps the rows of a data set here; none where it keeps none.

    Errors: ``UserError`` where it cannot be loaded.
    """
    loaded = load_from_hub(dataset, streaming=False)
    return [Path(file["filename"]) for file in getattr(loaded, "cache_files", ())]


def _remote_folder() -> Path:
    """Where fetched files are kept."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.path.expanduser(cache)) / "hf_align" / "fetched"


def _matching(pattern: str, dataset: DatasetConfig) -> list[Path]:
    """The files that fit a pattern, in the order of their names."""
    found = sorted(path for path in map(Path, glob.glob(pattern, recursive=True)) if path.is_file())
    for path in found:
        _check_file(path, dataset)
    return found


def _check_file(path: Path, dataset: DatasetConfig) -> None:
    """Raise ``UserError`` for an unknown type, and for a split or configuration that a file does not have."""
    _reader(path, dataset)
    kind = kind_of(path)
    if dataset.name is not None:
        raise UserError(f"{path}: found the name '{dataset.name}', but a file has no configurations.")
    if dataset.split != DEFAULT and kind != ".json":
        raise UserError(
            f"{path}: found the split '{dataset.split}', but a file of this type has no splits; remove split."
        )
    if dataset.separator is not None and kind not in (".csv", ".tsv"):
        raise UserError(f"{path}: separator is for csv files; remove it.")
    if dataset.text_unit != "line" and kind != ".txt":
        raise UserError(f"{path}: text_unit is for txt files; remove it.")


def _reader(path: Path, dataset: DatasetConfig) -> Callable[[Path], Iterator[RawRow]]:
    kind = kind_of(path)
    reader = READERS.get(kind)
    packed = path.suffix.lower() in COMPRESSED
    if reader is None or (packed and kind in _WHOLE):
        raise UserError(
            f"{path}: unknown file type '{''.join(path.suffixes[-2:]) if packed else path.suffix}'; expected "
            f"one of {', '.join(READERS)}, those but {' and '.join(_WHOLE)} also with "
            f"{', '.join(COMPRESSED)} behind." + did_you_mean(path.suffix.lower(), READERS)
        )
    if kind == ".json":
        return partial(read_json, split=dataset.split)
    if kind == ".txt":
        return partial(read_txt, unit=dataset.text_unit)
    if dataset.separator is not None and kind in (".csv", ".tsv"):
        return partial(read_csv, separator=dataset.separator)
    return reader


def _file_rows(path: Path, reader: Callable[[Path], Iterator[RawRow]]) -> Iterator[RawRow]:
    empty = True
    try:
        for row in reader(path):
            empty = False
            yield row
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}.") from error
    if empty:
        raise UserError(f"{path}: the file has no rows.")


def _folder_files(folder: Path, dataset: DatasetConfig) -> list[Path]:
    saved = saved_files(folder, dataset)
    if saved is not None:
        return saved
    chosen = files_of_split(folder, dataset)
    files = sorted(
        path
        for path in (folder.rglob("*") if chosen is None else chosen)
        if _is_known(path) and path.is_file() and not is_hidden(path.relative_to(folder))
    )
    if not files:
        raise UserError(f"{folder}: the folder has no file of a known type ({', '.join(READERS)}).")
    return files


def _is_known(path: Path) -> bool:
    return kind_of(path) in READERS and not (path.suffix.lower() in COMPRESSED and kind_of(path) in _WHOLE)


def is_hidden(path: PurePath) -> bool:
    """Whether a path below a folder is hidden, or lies in a hidden folder, as copies that editors keep do."""
    return any(part.startswith(".") for part in path.parts)


def _rows_of_files(files: list[Path], dataset: DatasetConfig) -> Iterator[RawRow]:
    for path in files:
        yield from _file_rows(path, _reader(path, dataset))


def load_from_hub(dataset: DatasetConfig, *, streaming: bool) -> Any:
    """The rows of the split, as the datasets library has them. Raises ``UserError`` where it cannot be
    had."""
    import datasets

    # The hub's client raises many unrelated types (network, authorisation, names, formats): all of them
    # mean that the recipe names something which cannot be had here.
    try:
        return datasets.load_dataset(dataset.path, dataset.name, split=dataset.split, streaming=streaming)
    except Exception as error:
        raise UserError(
            f"{dataset.path}: no such file or folder here, and {_named(dataset)} could not be loaded from "
            f"the hub: {_first_line(error)}"
        ) from error


def _hub_rows(dataset: DatasetConfig, streaming: bool) -> Iterator[RawRow]:
    rows = iter(load_from_hub(dataset, streaming=streaming))
    number = 0
    while True:
        try:
            values = next(rows, None)
        except Exception as error:
            raise UserError(
                f"{dataset.path}: reading {_named(dataset)} failed after {number} rows: {_first_line(error)}"
            ) from error
        if values is None:
            break
        number += 1
        yield RawRow(f"{dataset.path}[{dataset.split}]:row {number}", dict(values))
    if number == 0:
        raise UserError(f"{dataset.path}: {_named(dataset)} has no rows.")


def _named(dataset: DatasetConfig) -> str:
    configuration = f", configuration '{dataset.name}'" if dataset.name else ""
    return f"the data set '{dataset.path}'{configuration}, split '{dataset.split}'"


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
