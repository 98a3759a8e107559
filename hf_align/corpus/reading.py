"""From the sources of a recipe to the first shards; what cannot be read is counted and named, never fatal
alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_align.corpus.document import Document, Verdict
from hf_align.corpus.documents import documents_of
from hf_align.corpus.passes import Gone, Tally, counts_file, shard_file, write_removed
from hf_align.corpus.shards import read_json, write_documents, write_json
from hf_align.data.report import SourceReport
from hf_align.errors import UserError

if TYPE_CHECKING:
    from hf_align.corpus.recipe import CorpusConfig

STEP = "read"
_DONE = "sources.json"


def read_sources(config: CorpusConfig, folder: Path, removed: Path | None) -> dict[str, Any]:
    """Write the first shards to ``folder``; returns how many there are and what each source had.

    Raises UserError where a source cannot be read, has too many malformed rows, or where nothing is left.
    """
    done = folder / _DONE
    if done.is_file():
        return read_json(done)
    options = config.corpus
    reports = []
    kept: list[Document] = []
    gone: list[Gone] = []
    tally, shards, size = Tally(), 0, 0

    def flush() -> None:
        nonlocal kept, gone, tally, shards, size
        if not counts_file(folder, shards).is_file():
            write_documents(shard_file(folder, shards), kept)
            if removed is not None and gone:
                write_removed(removed / f"read-{shards:06d}.parquet", gone)
            write_json(counts_file(folder, shards), {STEP: tally.content()})
        kept, gone, tally, shards, size = [], [], Tally(), shards + 1, 0

    for dataset in config.sources.datasets:
        report = SourceReport(dataset.path, "train")
        for document in documents_of(dataset, report):
            verdict = _fits(document, options.max_document_characters)
            if kept and verdict.keep and size + len(document.text) > options.shard_characters:
                flush()
            tally.add(document, verdict, document if verdict.keep else None)
            if verdict.keep:
                kept.append(document)
                size += len(document.text)
            else:
                gone.append((document, STEP, verdict))
            if len(kept) + len(gone) >= options.shard_documents:
                flush()
        _check(report, config.sources.max_malformed_share)
        reports.append(
            {
                "path": dataset.path,
                "rows": report.read,
                "malformed": report.malformed,
                "problems": [str(problem) for problem in report.problems],
            }
        )
    if kept or gone:
        flush()
    if not shards:
        listed = ", ".join(dataset.path for dataset in config.sources.datasets)
        raise UserError(f"datasets: {listed}: there is no document in them")
    found = {"shards": shards, "sources": reports}
    write_json(done, found)
    return found


def _fits(document: Document, most: int) -> Verdict:
    length = len(document.text)
    if not document.text.strip():
        return Verdict(False, "empty", length, 0)
    return Verdict() if length <= most else Verdict(False, "too_long", length, most)


def _check(report: SourceReport, share: float) -> None:
    if report.malformed > share * report.read:
        raise UserError(
            f"{report.name}: {report.malformed} of {report.read} rows are malformed, more than "
            f"max_malformed_share = {share:g} allows. The first:\n"
            + "\n".join(f"  {problem}" for problem in report.problems)
        )
