"""A pass over one shard, run in a process of its own: steps on single documents, or one part of a whole step.

Every function reads files, writes files and returns nothing. The JSON beside a result is written last and
says that it is there; whoever is asked for a result that is there does nothing, so that a killed run goes on.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hf_align.corpus.document import Document, Verdict
from hf_align.corpus.shards import (
    read_arrays,
    read_documents,
    read_json,
    write_arrays,
    write_documents,
    write_json,
    write_table,
)
from hf_align.corpus.steps import Entry, Named, apply_one, read_steps

VALUES = 400
"""Values of a rule that the report sees of a shard, at even distances."""
EXAMPLES = 3
"""Removed documents of a reason that the report sees of a shard."""
SHOWN_CHARACTERS = 400


@dataclass(frozen=True)
class Pass:
    """Some steps over all shards. ``first``, ``last``: of the recipe's steps, ``last`` not included; several
    are steps on single documents. ``source``, ``target``: folders of shards. ``removed``: folder for what
    goes, None where it is not kept."""

    entries: tuple[Entry, ...]
    first: int
    last: int
    source: Path
    target: Path
    removed: Path | None
    dry_run: bool

    @property
    def steps(self) -> list[Named]:
        return read_steps(self.entries)[self.first : self.last]

    def shard(self, number: int) -> Path:
        return shard_file(self.source, number)


def shard_file(folder: Path, number: int) -> Path:
    """Where the documents of a shard are."""
    return folder / f"{number:06d}.parquet"


def counts_file(folder: Path, number: int) -> Path:
    """Where its counts are, which say that the shard is whole."""
    return folder / f"{number:06d}.json"


class Tally:
    """What one step did to a shard, for the report."""

    def __init__(self) -> None:
        self.before: Counter[str] = Counter()
        self.after: Counter[str] = Counter()
        self.reasons: dict[str, Counter[str]] = defaultdict(Counter)
        self.edits: Counter[str] = Counter()
        self.examples: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.values: dict[str, list[float]] = defaultdict(list)

    def add(self, document: Document, verdict: Verdict, changed: Document | None) -> None:
        _count(self.before, document)
        self.edits.update(verdict.edits)
        for name, value in verdict.values.items():
            self.values[name].append(float(value))
        if changed is not None:
            _count(self.after, changed)
            return
        _count(self.reasons[verdict.reason], document)
        shown = self.examples[verdict.reason]
        if len(shown) < EXAMPLES:
            shown.append(
                {
                    "id": document.id,
                    "text": document.text[:SHOWN_CHARACTERS],
                    "value": _plain(verdict.value),
                    "threshold": _plain(verdict.threshold),
                }
            )

    def content(self) -> dict[str, Any]:
        return {
            "before": dict(self.before),
            "after": dict(self.after),
            "reasons": {name: dict(count) for name, count in sorted(self.reasons.items())},
            "edits": dict(sorted(self.edits.items())),
            "examples": {name: shown for name, shown in sorted(self.examples.items())},
            "values": {name: _sample(values) for name, values in sorted(self.values.items())},
        }


def _count(counter: Counter[str], document: Document) -> None:
    counter["documents"] += 1
    counter["characters"] += len(document.text)
    counter["words"] += len(document.words)


def _sample(values: Sequence[float]) -> list[float]:
    """At most ``VALUES`` of them, at even distances in order of size; infinite ones are left out."""
    ordered = np.sort(np.asarray([value for value in values if np.isfinite(value)]))
    if len(ordered) > VALUES:
        ordered = ordered[np.linspace(0, len(ordered) - 1, VALUES).round().astype(int)]
    return [float(value) for value in ordered]


def _plain(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def run_documents(job: Pass, number: int) -> None:
    """Steps on single documents, one after another."""
    done = counts_file(job.target, number)
    if done.is_file():
        return
    steps = job.steps
    tallies = [Tally() for _ in steps]
    kept, gone = [], []
    for document in read_documents(job.shard(number)):
        current: Document | None = document
        for step, tally in zip(steps, tallies, strict=True):
            assert current is not None and step.one is not None
            verdict = apply_one(step.one, current)
            changed = current.changed(verdict) if verdict.keep else None
            tally.add(current, verdict, changed)
            if job.dry_run:
                # Each step is measured by itself; what the text is found to be (its language) is passed on.
                current = current.changed(Verdict(columns=verdict.columns))
            elif changed is None:
                gone.append((current, step.name, verdict))
                current = None
                break
            else:
                current = changed
        if current is not None:
            kept.append(current)
    _finish(job, number, kept, gone, [(step.name, tally) for step, tally in zip(steps, tallies, strict=True)])


def run_scan(job: Pass, number: int) -> None:
    """What the decision of a step over the whole corpus needs to know of a shard."""
    path = scan_file(job.target, number)
    if path.is_file():
        return
    (step,) = job.steps
    assert step.whole is not None
    write_arrays(path, step.whole.scan(read_documents(job.shard(number)), job.target))


def scan_file(folder: Path, number: int) -> Path:
    """Where a whole step keeps what it needs to know of a shard."""
    return folder / f"{number:06d}.scan.npz"


def decision_file(folder: Path, number: int) -> Path:
    """Where its decision on a shard is."""
    return folder / f"{number:06d}.decided.npz"


def decide(job: Pass, shards: int) -> None:
    """From all scans to what each shard has to know. In one process."""
    done = job.target / "decision.json"
    if done.is_file():
        return
    (step,) = job.steps
    assert step.whole is not None
    decision = step.whole.decide(
        [read_arrays(scan_file(job.target, number)) for number in range(shards)],
        lambda number: read_documents(job.shard(number)),
    )
    for number, arrays in enumerate(decision.shards):
        write_arrays(decision_file(job.target, number), arrays)
    write_json(done, decision.found)


def prepare(job: Pass) -> None:
    """What a step needs before it looks at any shard. In one process."""
    done = job.target / "prepared.json"
    if done.is_file():
        return
    (step,) = job.steps
    assert step.whole is not None
    job.target.mkdir(parents=True, exist_ok=True)
    write_json(done, step.whole.prepare(job.target))


def run_apply(job: Pass, number: int) -> None:
    """A whole step's verdicts on a shard."""
    if counts_file(job.target, number).is_file():
        return
    (step,) = job.steps
    assert step.whole is not None
    documents = read_documents(job.shard(number))
    verdicts = step.whole.apply(documents, read_arrays(decision_file(job.target, number)))
    tally = Tally()
    kept, gone = [], []
    for document, verdict in zip(documents, verdicts, strict=True):
        changed = document.changed(verdict) if verdict.keep else None
        tally.add(document, verdict, changed)
        if job.dry_run:
            kept.append(document.changed(Verdict(columns=verdict.columns)))
        elif changed is None:
            gone.append((document, step.name, verdict))
        else:
            kept.append(changed)
    _finish(job, number, kept, gone, [(step.name, tally)])


Gone = tuple[Document, str, Verdict]


def _finish(
    job: Pass,
    number: int,
    kept: Sequence[Document],
    gone: Sequence[Gone],
    tallies: Iterable[tuple[str, Tally]],
) -> None:
    write_documents(shard_file(job.target, number), kept)
    if job.removed is not None and gone:
        write_removed(job.removed / f"{job.first:02d}-{number:06d}.parquet", gone)
    write_json(counts_file(job.target, number), {name: tally.content() for name, tally in tallies})


def write_removed(path: Path, gone: Sequence[Gone]) -> None:
    """Removed documents with the step, its reason, the value and the threshold."""
    write_table(
        path,
        {
            "id": [document.id for document, _, _ in gone],
            "source": [document.source for document, _, _ in gone],
            "text": [document.text for document, _, _ in gone],
            "step": [name for _, name, _ in gone],
            "reason": [verdict.reason for _, _, verdict in gone],
            "value": [_plain(verdict.value) for _, _, verdict in gone],
            "threshold": [_plain(verdict.threshold) for _, _, verdict in gone],
        },
    )


def merged(folder: Path, shards: int) -> dict[str, dict[str, Any]]:
    """The counts of all shards of a pass, by step."""
    found: dict[str, dict[str, Any]] = {}
    for number in range(shards):
        for name, part in read_json(counts_file(folder, number)).items():
            _add(found.setdefault(name, _empty()), part)
    return found


def _empty() -> dict[str, Any]:
    return {
        "before": Counter(),
        "after": Counter(),
        "reasons": {},
        "edits": Counter(),
        "examples": {},
        "values": {},
    }


def _add(total: dict[str, Any], part: Mapping[str, Any]) -> None:
    for key in ("before", "after", "edits"):
        total[key].update(part[key])
    for name, count in part["reasons"].items():
        total["reasons"].setdefault(name, Counter()).update(count)
    for name, shown in part["examples"].items():
        examples = total["examples"].setdefault(name, [])
        examples += shown[: EXAMPLES - len(examples)]
    for name, values in part["values"].items():
        total["values"].setdefault(name, []).extend(values)


def numbered(steps: Sequence[Named]) -> Iterator[tuple[int, int]]:
    """(first, last) of each pass: steps on single documents that follow each other are one pass."""
    first = 0
    while first < len(steps):
        last = first + 1
        if steps[first].one is not None:
            while last < len(steps) and steps[last].one is not None:
                last += 1
        yield first, last
        first = last
