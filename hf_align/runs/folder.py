"""The run folder: where a run starts in it, what run.json says, and what is left when it ends."""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from hf_align.config import Recipe
from hf_align.errors import UserError
from hf_align.runs import disk_full, limits, lock, releases
from hf_align.runs.checkpoints import PROCESSES_FILE, is_leftover, newest_complete, remove_leftovers
from hf_align.runs.record import RUN_FILE, collect_machine, collect_versions, read_run, redact, write_json
from hf_align.runs.schema import Model, Record

logger = logging.getLogger(__name__)

EARLIER = "earlier-run"
"""Name, before the time, of a folder within the run folder to which an earlier run is moved."""


def claim_output_dir(output_dir: str, *, resuming: bool) -> None:
    """Check ``output_dir`` and keep other runs out of it, until the command ends (``lock.releases_folders``).

    Raises UserError for a folder that the run cannot use, and for one that another process writes to.
    """
    check_output_dir(output_dir, resuming=resuming)
    lock.take(output_dir)


def prepare_output_dir(output_dir: str, *, resuming: bool) -> None:
    """Make ``output_dir`` ready for a run; nothing that is in it gets lost.

    What an earlier run there left is moved to ``<output_dir>.<time>`` unless it is resumed; the folder itself
    stays, since it may be a link, a mount point or the working directory. What a killed process left
    half-done is cleaned up. Raises UserError for a folder that holds something else.
    """
    check_output_dir(output_dir, resuming=resuming)
    folder = Path(output_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"output_dir: '{output_dir}' cannot be made: {error.strerror or error}; choose another folder"
        ) from error
    remove_leftovers(folder)
    if not resuming and (content := _content(folder)):
        logger.warning("%s held an earlier run, which is now in %s", folder, _move(folder, content))


def _move(folder: Path, content: Sequence[Path]) -> Path:
    """Move ``content`` of ``folder`` into a new folder beside it; within it where that cannot be."""
    place = folder.resolve()
    stamp = f"{datetime.now(UTC):%Y%m%d-%H%M%S}"
    # run.json last: killed on the way, the rest is moved by the next run.
    ordered = sorted(content, key=lambda path: path.name == RUN_FILE)
    target = _free_name(place.with_name(f"{place.name}.{stamp}"))
    try:
        target.mkdir()
        try:
            ordered[0].rename(target / ordered[0].name)
        except OSError:
            target.rmdir()
            raise
    except OSError:  # another file system, as beside a mount point, or a folder that is not ours
        target = _free_name(place / f"{EARLIER}.{stamp}")
        target.mkdir()
        ordered[0].rename(target / ordered[0].name)
    for path in ordered[1:]:
        path.rename(target / path.name)
    return target


def _content(folder: Path) -> list[Path]:
    """What is in ``folder`` beside its lock and the earlier runs that had to stay within."""
    return [
        path
        for path in sorted(folder.iterdir())
        if path.name != lock.LOCK_FILE and not path.match(f"{EARLIER}.*")
    ]


def check_output_dir(output_dir: str, *, resuming: bool) -> None:
    """Raise UserError for a file, and for a folder that holds something else than a run."""
    folder = Path(output_dir)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"output_dir: '{output_dir}' is a file; expected a folder")
    if folder.is_symlink() and not folder.exists():
        raise UserError(f"output_dir: '{output_dir}' is a link to {os.readlink(folder)}, which is not there")
    usable = resuming or not folder.exists() or (folder / RUN_FILE).is_file() or _only_leftovers(folder)
    if not usable:
        raise UserError(
            f"output_dir: '{output_dir}' is not empty and is not a run folder (it has no {RUN_FILE}); "
            "choose another folder"
        )


def _only_leftovers(folder: Path) -> bool:
    """Whether nothing is in ``folder`` but temporary files, as after a kill before run.json was written."""
    return all(is_leftover(path.name) for path in _content(folder))


def _free_name(path: Path) -> Path:
    """``path``, with a number after it where that name is taken."""
    count, free = 1, path
    while free.exists():
        count += 1
        free = path.with_name(f"{path.name}.{count}")
    return free


def check_shared(output_dir: str, *, main: bool, wait: Callable[[], None]) -> None:
    """Raise UserError on a process that does not see the main process's ``output_dir``.

    Each process writes its own part of a checkpoint there. ``wait``: returns once all processes called it.
    """
    mark = Path(output_dir) / PROCESSES_FILE
    if main:
        mark.touch()
    wait()
    seen = mark.exists()
    wait()
    if main:
        mark.unlink(missing_ok=True)
    if not seen:
        raise UserError(
            f"output_dir: the main process's '{output_dir}' is not visible on {platform.node()}; with "
            "several machines it has to be on a file system that they share."
        )


class RunRecord:
    """run.json, written whole whenever something is added to it.

    A resumed run keeps what the first part recorded (evaluation and samples from before training) and adds
    to its wall time.
    """

    def __init__(self, command: str, recipe: Recipe, output_dir: str, *, resuming: bool, main: bool) -> None:
        self.path = Path(output_dir) / RUN_FILE
        self.main = main
        self.started = time.perf_counter()
        self.content = read_run(output_dir) if resuming and self.path.is_file() else Record()
        self.earlier_seconds = self.content.wall_time_seconds or 0.0
        if not self.content.started:
            self.content.started = datetime.now(UTC).isoformat(timespec="seconds")
        self.update(
            Record(
                command=command,
                status="running",
                recipe=redact(recipe.to_flat()),
                recipe_path=recipe.recipe_path,
                overrides=redact(recipe.overrides),
                versions=collect_versions(),
                machine=collect_machine(),
            ),
            releases.record_entries(),
        )

    def update(self, *entries: Record) -> None:
        """Take over the entries that are given, and write the whole."""
        for each in entries:
            self.content.update(each)
        seconds = self.earlier_seconds + time.perf_counter() - self.started
        self.content.wall_time_seconds = round(seconds, 1)
        if self.main:
            write_json(self.path, self.content)

    def update_model(self, facts: Model) -> None:
        """Take over what is given of the entry ``model``."""
        self.update(Record(model=Model.of(self.content.model | facts)))


@contextlib.contextmanager
def marked_if_cut_short(record: RunRecord, command: str) -> Iterator[None]:
    """Whatever ends the run in here is noted in run.json, with a word on how to resume.

    ``command``: the shell command that does. Raises UserError in place of the error of a full disk.
    """
    try:
        yield
    except BaseException as error:
        if record.main:
            output_dir = str(record.path.parent)
            full = disk_full.explain(error, output_dir, command=command)
            _note_interruption(record)
            if full is not None:
                raise full from error
            if (limit := limits.explain(error)) is not None:
                raise limit from error
            if not isinstance(error, UserError):
                _say_how_to_resume(output_dir, command)
        raise


def _note_interruption(record: RunRecord) -> None:
    try:
        record.update(Record(status="interrupted"))
    except OSError as error:
        logger.warning("%s could not be written: %s", record.path, error)


def _say_how_to_resume(output_dir: str, command: str) -> None:
    checkpoint = newest_complete(output_dir)
    if checkpoint is None:
        print(f"\nInterrupted before the first checkpoint; the run folder is {output_dir}.", file=sys.stderr)
    else:
        print(f"\nInterrupted; saved up to {checkpoint}. Continue with:\n  {command}", file=sys.stderr)
