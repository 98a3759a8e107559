"""What ``hf-align corpus`` adds to run.json."""

from __future__ import annotations

from typing import Any

from hf_align.runs.schema import Fields, Record, entry


class Found(Fields):
    """The entry ``corpus``: what each step did."""

    sources: list[Any] = entry("`path`, `rows`, `malformed` and the first `problems` of each source")
    steps: list[Any] = entry(
        "of each step, the reading first: `name`, `before` and `after` (documents, words, characters), "
        "`reasons`, `edits`, `examples`, `values`"
    )
    whole: dict[str, Any] = entry("what steps over the whole corpus found, by step")
    languages: dict[str, Any] = entry("documents that are kept, by language")
    lengths: dict[str, Any] = entry("`edges` and `counts` of the words of kept documents, in powers of two")
    files: dict[str, Any] = entry("documents in each file that was written")
    dry_run: bool | None = entry("whether nothing was removed")
    documents_per_second: float | None = entry("read documents over the time of this process's work")


class CorpusRecord(Record):
    """The entries of run.json of ``hf-align corpus``."""

    identity: dict[str, Any] = entry("what the documents depend on; another one is another run")
    corpus: Found = entry("what was removed, and why")
