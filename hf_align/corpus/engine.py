"""All passes over all shards, by any number of processes, with the same result; a killed run goes on."""

from __future__ import annotations

import functools
import multiprocessing
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_align.corpus import passes
from hf_align.corpus.passes import Pass
from hf_align.corpus.reading import STEP, read_sources
from hf_align.corpus.shards import read_json
from hf_align.corpus.steps import read_steps
from hf_align.errors import UserError

if TYPE_CHECKING:
    from hf_align.corpus.recipe import CorpusConfig

WORK = "work"
REMOVED = "removed"
"""Folders of the run: what passes leave until the run has ended, and removed documents."""

Task = Callable[[Pass, int], None]


def run_passes(config: CorpusConfig, folder: Path) -> tuple[Path, int, dict[str, Any]]:
    """(folder of the last shards, how many there are, what was found: ``sources``, ``steps``, ``whole``).

    ``steps`` has an entry for each step in order, the reading first. Raises UserError for what cannot be
    read, and where a process is killed from outside.
    """
    options = config.corpus
    steps = read_steps(options.steps)
    work = folder / WORK
    removed = folder / REMOVED if options.keep_removed and not options.dry_run else None
    first = work / "00-read"
    first.mkdir(parents=True, exist_ok=True)
    read = read_sources(config, first, removed)
    shards = int(read["shards"])
    found: dict[str, Any] = {"sources": read["sources"], "steps": passes.merged(first, shards), "whole": {}}
    source = first
    ranges = list(passes.numbered(steps))
    with _executor(options.num_workers, shards) as executor, _progress(len(ranges), shards) as advance:
        for start, stop in ranges:
            names = "+".join(step.name for step in steps[start:stop])
            job = Pass(
                tuple(options.steps),
                start,
                stop,
                source,
                work / f"{start + 1:02d}-{steps[start].name}",
                removed,
                options.dry_run,
            )
            job.target.mkdir(parents=True, exist_ok=True)
            advance(names, 0)
            if steps[start].whole is not None:
                passes.prepare(job)
                _each(executor, passes.run_scan, job, shards, lambda: None)
                passes.decide(job, shards)
                found["whole"][steps[start].name] = {
                    **read_json(job.target / "prepared.json"),
                    **read_json(job.target / "decision.json"),
                }
            task = passes.run_documents if steps[start].one is not None else passes.run_apply
            _each(executor, task, job, shards, functools.partial(advance, names, 1))
            found["steps"] |= passes.merged(job.target, shards)
            source = job.target
    return source, shards, found


@contextmanager
def _executor(workers: int, shards: int) -> Iterator[Executor | None]:
    """None where this process does it all."""
    count = min(workers or os.cpu_count() or 1, shards)
    if count < 2:
        yield None
        return
    # Not forked: libraries with threads of their own may hold locks.
    with ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("spawn")) as executor:
        try:
            yield executor
        except BaseException:
            executor.shutdown(wait=True, cancel_futures=True)
            raise


def _each(executor: Executor | None, task: Task, job: Pass, shards: int, advance: Callable[[], None]) -> None:
    if executor is None:
        for number in range(shards):
            task(job, number)
            advance()
        return
    futures: list[Future[None]] = [executor.submit(task, job, number) for number in range(shards)]
    try:
        for future in as_completed(futures):
            future.result()
            advance()
    except BrokenProcessPool as error:
        raise UserError(
            "num_workers: a process was killed, by the system for lack of memory or by someone; lower "
            "shard_documents or num_workers and run the same command again: it goes on from there"
        ) from error


@contextmanager
def _progress(ranges: int, shards: int) -> Iterator[Callable[[str, int], None]]:
    from tqdm.auto import tqdm

    with tqdm(total=ranges * shards, unit="shard", leave=False, disable=not sys.stderr.isatty()) as bar:

        def advance(name: str, count: int) -> None:
            bar.set_description(name[:60])
            bar.update(count)

        yield advance


def clear(folder: Path) -> None:
    """Remove what only a run that has not ended needs."""
    shutil.rmtree(folder / WORK, ignore_errors=True)


__all__ = ["REMOVED", "STEP", "WORK", "clear", "run_passes"]
