"""Shards on disk: documents as parquet, counts as JSON beside them; what is half-written is never taken for
whole."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hf_align.corpus.document import Document

_FIELDS = ("id", "source", "text", "columns")
_NUMBERS = ("value", "threshold", "language_score", "quality_score")


def write_documents(path: Path, documents: Sequence[Document]) -> None:
    """Parquet with ``id``, ``source``, ``text`` and the other columns as JSON."""
    rows = {
        "id": [document.id for document in documents],
        "source": [document.source for document in documents],
        "text": [document.text for document in documents],
        "columns": [json.dumps(dict(document.columns), ensure_ascii=False) for document in documents],
    }
    write_table(path, rows)


def read_documents(path: Path) -> list[Document]:
    """The documents of a shard, in order."""
    import pyarrow.parquet as parquet

    table = parquet.read_table(path).to_pydict()
    return [
        Document(name, text, source, json.loads(columns))
        for name, source, text, columns in zip(*(table[field] for field in _FIELDS), strict=True)
    ]


def write_table(path: Path, rows: Mapping[str, Sequence[Any]]) -> None:
    """Parquet; every column keeps its type where a shard is empty."""
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    kinds = {name: arrow.float64() if name in _NUMBERS else arrow.large_string() for name in rows}
    table = arrow.table({name: arrow.array(list(rows[name]), kinds[name]) for name in rows})
    replace_whole(path, lambda part: parquet.write_table(table, part, compression="zstd"))


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """A JSON file, whole or not at all."""
    replace_whole(path, lambda part: part.write_text(json.dumps(content, ensure_ascii=False)))


def read_json(path: Path) -> dict[str, Any]:
    """What such a file holds."""
    found: dict[str, Any] = json.loads(path.read_bytes())
    return found


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Arrays by name, without pickles."""

    def write(part: Path) -> None:
        with part.open("wb") as file:
            np.savez(file, **{name: np.asarray(array) for name, array in arrays.items()})

    replace_whole(path, write)


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Arrays by name; a file with a pickle in it is refused."""
    with np.load(path, allow_pickle=False) as saved:
        return {name: saved[name] for name in saved.files}


def replace_whole(path: Path, write: Callable[[Path], Any]) -> None:
    """Write beside ``path`` and move there, so that a file with its name is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    write(part)
    os.replace(part, path)
