"""The documents that are kept, as files that every stage takes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_align.corpus.document import Document
from hf_align.corpus.passes import shard_file
from hf_align.corpus.shards import read_documents, replace_whole, write_table

if TYPE_CHECKING:
    from hf_align.corpus.recipe import CorpusConfig

DATA = "data"


def write_kept(
    config: CorpusConfig,
    folder: Path,
    last: Path,
    shards: int,
    counted: Callable[[Sequence[Document]], Iterable[Document]],
) -> dict[str, int]:
    """Write the shards of ``last``, those without a document aside; returns documents by file.

    A row has ``text``, ``id``, ``source``, what steps found of it (``language``, ``language_score``,
    ``quality_score``), and its other columns as JSON in ``metadata``. ``counted`` sees every document once.
    With ``dry_run`` nothing is written.
    """
    options = config.corpus
    data = folder / DATA
    files: dict[str, int] = {}
    for number in range(shards):
        documents = list(counted(read_documents(shard_file(last, number))))
        if not documents or options.dry_run:
            continue
        path = data / f"{number:06d}.{options.output_format}"
        if options.output_format == "parquet":
            write_table(path, _columns(documents))
        else:
            lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in map(_row, documents))
            replace_whole(path, lambda part, text=lines: part.write_text(text, encoding="utf-8"))
        files[f"{DATA}/{path.name}"] = len(documents)
    return files


def _row(document: Document) -> dict[str, Any]:
    found = {name: document.columns[name] for name in _OWN if name in document.columns}
    others = {name: value for name, value in document.columns.items() if name not in _OWN}
    if others:
        found["metadata"] = json.dumps(others, ensure_ascii=False)
    return {"text": document.text, "id": document.id, "source": document.source, **found}


def _columns(documents: Sequence[Document]) -> dict[str, list[Any]]:
    rows = [_row(document) for document in documents]
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}


_OWN = ("language", "language_score", "quality_score")
