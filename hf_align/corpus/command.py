"""Clean a corpus: filter, edit and deduplicate documents by a list of steps, and report what each one did."""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_align.config import load_config
from hf_align.corpus.recipe import CorpusConfig
from hf_align.corpus.record import CorpusRecord, Found
from hf_align.runs.lock import releases_folders

if TYPE_CHECKING:
    from hf_align.corpus.document import Document
    from hf_align.runs.folder import RunRecord

DATA = "data"
"""Folder of the documents that are kept; ``datasets: [RUN/data]`` takes it."""


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Read the recipe from ``argv`` and run it; returns the content of run.json."""
    # Errors in the recipe are reported before anything heavy is imported.
    config = load_config(CorpusConfig, argv, command="corpus", description=__doc__ or "")
    return run(config)


@releases_folders
def run(config: CorpusConfig) -> dict[str, Any]:
    """Clean and write as ``config`` says; returns the content of the run's run.json.

    Raises UserError for wrong input. What was done by then stays, and the same command goes on from there.
    """
    from hf_align.corpus import engine
    from hf_align.corpus.steps import read_steps
    from hf_align.runs import folder as run_folder

    options = config.corpus
    # Before anything is read: unknown steps, options and files of steps.
    read_steps(options.steps)
    folder = Path(options.output_dir)
    run_folder.claim_output_dir(options.output_dir, resuming=False)
    identity = _identity(config)
    resuming = options.resume and _identity_of(folder) == identity
    run_folder.prepare_output_dir(options.output_dir, resuming=resuming)
    record = run_folder.RunRecord("corpus", config, options.output_dir, resuming=resuming, main=True)
    record.update(CorpusRecord(identity=identity))
    started = time.monotonic()
    try:
        last, shards, found = engine.run_passes(config, folder)
        _finish(config, record, last, shards, found, time.monotonic() - started)
    except BaseException:
        record.update(CorpusRecord(status="failed"))
        raise
    engine.clear(folder)
    return record.content


def _identity(config: CorpusConfig) -> dict[str, Any]:
    """What the documents depend on: sources with their sizes, steps, shards."""
    from hf_align.data.reading.sources import local_files

    options = config.corpus
    files = []
    for dataset in config.sources.datasets:
        for path in local_files(dataset) or []:
            state = path.stat()
            files.append([str(path), state.st_size, state.st_mtime_ns])
    content = {
        "datasets": config.to_flat()["datasets"],
        "files": files,
        "steps": list(options.steps),
        "dry_run": options.dry_run,
        "keep_removed": options.keep_removed,
        "limits": [options.shard_documents, options.shard_characters, options.max_document_characters],
    }
    text = json.dumps(content, sort_keys=True, default=str)
    return {"digest": hashlib.blake2b(text.encode(), digest_size=16).hexdigest()}


def _identity_of(folder: Path) -> dict[str, Any] | None:
    from hf_align.runs.record import RUN_FILE, read_run

    if not (folder / RUN_FILE).is_file():
        return None
    return dict(CorpusRecord.of(read_run(folder)).identity)


def _finish(
    config: CorpusConfig, record: RunRecord, last: Path, shards: int, found: dict[str, Any], seconds: float
) -> None:
    """The files, the counts and the report."""
    from hf_align.corpus.output import write_kept
    from hf_align.reporting.html import write_report
    from hf_align.reporting.model_card import write_model_card

    folder = Path(config.corpus.output_dir)
    languages: Counter[str] = Counter()
    lengths: Counter[int] = Counter()

    def counted(documents: Sequence[Document]) -> Iterator[Document]:
        for document in documents:
            languages[document.language or "unknown"] += 1
            lengths[len(document.words).bit_length()] += 1
            yield document

    files = write_kept(config, folder, last, shards, counted)
    steps = [{"name": name, **content} for name, content in found["steps"].items()]
    read = int(steps[0]["before"].get("documents", 0))
    top = max(lengths, default=0)
    record.update(
        CorpusRecord(
            status="completed",
            corpus=Found(
                sources=found["sources"],
                steps=steps,
                whole=found["whole"],
                languages=dict(languages.most_common()),
                lengths={
                    "edges": [0, *(2**power for power in range(top + 1))],
                    "counts": [lengths[power] for power in range(top + 1)],
                },
                files=files,
                dry_run=config.corpus.dry_run,
                documents_per_second=read / max(seconds, 1e-9),
            ),
            final_metrics={
                "documents_read": read,
                "documents_kept": sum(files.values()),
                "words_kept": int(steps[-1]["after"].get("words", 0)),
            },
        )
    )
    page = write_report(folder)
    write_model_card(folder)
    for line in _results(steps, dry_run=config.corpus.dry_run):
        print(line)
    where = "nothing was written (dry_run)" if config.corpus.dry_run else f"{folder / DATA}"
    print(f"documents: {where}; report: {page}")


def _results(steps: Sequence[dict[str, Any]], *, dry_run: bool) -> list[str]:
    """What each step removed, a line each."""
    lines = []
    for step in steps:
        before, after = (step[key].get("documents", 0) for key in ("before", "after"))
        words, left = (step[key].get("words", 0) for key in ("before", "after"))
        most = sorted(step["reasons"].items(), key=lambda item: -item[1]["documents"])[:3]
        why = ", ".join(f"{name} {count['documents']:,}" for name, count in most)
        edits = ", ".join(f"{name} {count:,}" for name, count in step["edits"].items())
        verb = "would keep" if dry_run else "keeps"
        line = f"{step['name']}: {verb} {after:,} of {before:,} documents, {left:,} of {words:,} words"
        lines.append(line + (f" ({why})" if why else "") + (f"; edited: {edits}" if edits else ""))
    return lines
