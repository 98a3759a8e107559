"""Spreads the preparation of one source over processes; the results come in the order of the rows.

The main process reads, the workers convert, render, tokenise and mask chunk by chunk. Only a few chunks are
on their way at any time, so memory does not grow with the source. Small sources, and the first rows of large
ones, are prepared in the main process: starting a worker takes as long as preparing thousands of rows.
"""

from __future__ import annotations

import logging
import math
import multiprocessing
import os
import pickle
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import chain
from multiprocessing.connection import wait
from pathlib import Path

from hf_align.data.pipeline import RowJob
from hf_align.data.reading.raw import RawRow
from hf_align.data.report import SourceReport
from hf_align.data.store.flat_rows import Arrays, flatten
from hf_align.errors import UserError

logger = logging.getLogger(__name__)

MOST_PROCESSES = 16
ROWS_BEFORE_WORKERS = 8192
_ROWS_BEFORE_PROGRESS_SHOWS = 4000
_CHUNKS_PER_WORKER = 3

Result = tuple[Arrays, SourceReport]
Work = Callable[[Iterable[RawRow]], Result]


def flat_rows_of(job: RowJob, prefix: str, keep_examples: bool, chunk: Iterable[RawRow]) -> Result:
    """``job``'s kept rows of a chunk in flat form (``flat_rows.flatten``), and the report on them."""
    report = SourceReport("")
    kept = list(job.kept(chunk, report))
    return flatten(kept, prefix, keep_examples=keep_examples), report


def prepare_chunks(
    work: Work, chunks: Iterator[list[RawRow]], report: SourceReport, *, processes: int, show: bool
) -> Iterator[Arrays]:
    """What ``work`` gives for every chunk, in order; ``report`` counts the rows as they come out.

    The result is the same for any number of ``processes``. ``show``: whether there may be a progress bar.

    Errors: ``UserError`` as the reader and the encoder raise them, after all rows before the error; also
    where a worker process dies.
    """
    from tqdm.auto import tqdm

    results = _results(work, chunks, processes)
    bar = None
    try:
        for piece, counts in results:
            report.add(counts)
            if bar is None and show and report.read > _ROWS_BEFORE_PROGRESS_SHOWS:
                bar = tqdm(desc=f"tokenising {report.name}", initial=report.read, unit=" rows", leave=False)
            elif bar is not None:
                bar.update(counts.read)
            yield piece
    finally:
        results.close()
        if bar is not None:
            bar.close()


def usable_cores() -> int:
    """Processor cores that this process may use: its affinity, and the quota of its container."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, _, period = Path("/sys/fs/cgroup/cpu.max").read_text().strip().partition(" ")
    except OSError:
        return cores
    if quota.isdigit() and period.isdigit() and int(period):
        cores = min(cores, max(1, math.ceil(int(quota) / int(period))))
    return cores


def default_processes() -> int:
    """As many as there are usable cores, up to a limit beyond which the reader is what takes the time."""
    return min(usable_cores(), MOST_PROCESSES)


def _results(work: Work, chunks: Iterator[list[RawRow]], processes: int) -> Iterator[Result]:
    rows = 0
    for chunk in chunks:
        if processes > 1 and rows >= ROWS_BEFORE_WORKERS:
            payload = _payload(work)
            if payload is not None:
                yield from _in_processes(payload, chain([chunk], chunks), processes)
                return
            processes = 1
        yield work(chunk)
        rows += len(chunk)


def _payload(work: Work) -> bytes | None:
    """The work as bytes for other processes, or None where its tokenizer cannot be sent."""
    try:
        return pickle.dumps(work)
    except Exception as error:  # what pickling runs belongs to the tokenizer's class
        logger.warning("Rows are prepared in one process: the tokenizer cannot be sent to others (%s)", error)
        return None


def _in_processes(payload: bytes, chunks: Iterator[list[RawRow]], processes: int) -> Iterator[Result]:
    # "spawn": the main process may hold threads, sockets and a GPU, with which a fork would not be safe.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(processes, context, _start_worker, (payload,))
    waiting: deque[Future[Result]] = deque()
    problem: Exception | None = None
    more = True
    try:
        while more or waiting:
            while more and len(waiting) < _CHUNKS_PER_WORKER * processes:
                try:
                    chunk = next(chunks, None)
                except Exception as error:  # raised below, when all rows before it are through
                    problem, chunk = error, None
                if chunk is None:
                    more = False
                else:
                    waiting.append(pool.submit(_work_on, chunk))
            if waiting:
                yield waiting.popleft().result()
        if problem is not None:
            raise problem
    except BrokenProcessPool as error:
        raise UserError(
            "A process that prepares rows ended unexpectedly; most often the system stopped it because "
            "memory ran out. Set `dataset_num_proc` lower (1: no further processes). A Python script that "
            'calls this needs `if __name__ == "__main__":` around its own code.'
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


_work: Work | None = None
"""What this worker does; set once, when it starts."""


def _start_worker(payload: bytes) -> None:
    global _work
    # Ctrl-C reaches all processes of a terminal; the main one ends the workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _work = pickle.loads(payload)


def _end_with_parent() -> None:
    """A worker whose parent was killed would wait for rows for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _work_on(chunk: list[RawRow]) -> Result:
    assert _work is not None
    return _work(chunk)
