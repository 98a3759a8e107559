"""A folder of finished entries, each written by one process and then only read.

An entry is a folder of files with a manifest that holds size and checksum of each. It is written beside its
place and renamed into it, so it is there whole or not at all; it is checked when it is opened, and a damaged
one is made again. A lock lets one process make an entry while others that want the same one wait: the ranks
of a run, or two runs. What an entry holds is up to those who make it: ``datasets`` for prepared rows.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from hf_align.errors import UserError

logger = logging.getLogger(__name__)

T = TypeVar("T")
Facts = dict[str, Any]

MANIFEST = "manifest.json"
_BLOCK = 1 << 22


def default_folder() -> Path:
    """``hf_align/datasets`` in ``HF_HOME`` where that is set, else in the user's cache folder."""
    home = os.environ.get("HF_HOME") or os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.path.expanduser(home)) / "hf_align" / "datasets"


def writable_folder(named: str | None, *, what: str = "prepared rows") -> Path | None:
    """The folder of the cache, made where it is missing; None where the default one cannot be written to.

    ``what``: what is to be kept there.

    Errors: ``UserError`` where that is so of a folder that the recipe names.
    """
    folder = Path(os.path.expanduser(named)) if named else default_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        usable = os.access(folder, os.W_OK | os.X_OK)
        problem = "no permission to write there"
    except OSError as error:
        usable, problem = False, error.strerror or str(error)
    if usable:
        return folder
    if named:
        raise UserError(f"dataset_cache_dir: {folder} cannot be used: {problem}. Name another folder.")
    logger.warning(
        "%s are not kept for the next run: %s cannot be used: %s", what.capitalize(), folder, problem
    )
    return None


def open_or_make(
    folder: Path,
    key: str,
    *,
    make: Callable[[Path], Facts],
    still_valid: Callable[[], bool],
    read: Callable[[Path, Facts], T],
    what: str = "prepared rows",
) -> T:
    """What ``read(entry, facts)`` returns for the entry ``key`` of ``folder``, made where it is missing.

    ``make`` writes files into an empty folder and returns facts for the manifest (JSON-able). Where
    ``still_valid()`` is false afterwards, the files are read once and not kept. ``read`` has to leave open or
    copy what it needs: the files may go as soon as it returns. ``what``: what the entry holds.

    Errors: ``UserError`` where the entry cannot be written; whatever ``make`` raises.
    """
    entry = folder / key
    facts = _checked(entry, report_damage=False)
    if facts is not None:
        return read(entry, facts)
    with _lock(folder / f".{key}.lock"):
        facts = _checked(entry, report_damage=True)
        if facts is not None:  # another process has made it meanwhile
            return read(entry, facts)
        for left in folder.glob(f".{key}.part-*"):
            shutil.rmtree(left, ignore_errors=True)  # its maker is dead, since the lock is ours
        _remove_leftovers(folder)
        part = folder / f".{key}.part-{os.getpid()}"
        try:
            part.mkdir()
            facts = make(part)
            if not still_valid():
                logger.warning("The data changed while they were read, so they are not kept for the next run")
                return read(part, facts)
            _finish(part, facts)
            shutil.rmtree(entry, ignore_errors=True)
            part.rename(entry)
        except OSError as error:
            raise UserError(
                f"dataset_cache_dir: {what} cannot be written to {folder}: {error.strerror or error}. "
                "Make room there, or name another folder."
            ) from error
        finally:
            shutil.rmtree(part, ignore_errors=True)
        return read(entry, facts)


def holds(folder: Path, key: str) -> bool:
    """Whether the entry ``key`` of ``folder`` is there and undamaged."""
    return _checked(folder / key, report_damage=False) is not None


def _remove_leftovers(folder: Path) -> None:
    """Remove what killed processes left of other entries: those whose lock nobody holds."""
    try:
        import fcntl
    except ImportError:
        return
    for left in folder.glob(".*.part-*"):
        lock = left.with_name(f"{left.name.rpartition('.part-')[0]}.lock")
        try:
            with lock.open("a") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left, ignore_errors=True)
        except OSError:  # in the making, or no locks on this file system
            continue


def _finish(part: Path, facts: Facts) -> None:
    """Write the manifest, and see that all of it is on disk before it can be taken for an entry."""
    files = {path.name: [path.stat().st_size, _checksum(path)] for path in sorted(part.iterdir())}
    (part / MANIFEST).write_text(json.dumps({"files": files, "facts": facts}), encoding="utf-8")
    for path in [*part.iterdir(), part]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _checked(entry: Path, *, report_damage: bool) -> Facts | None:
    """The facts of an entry whose files are all as they were written, or None."""
    if not entry.is_dir():
        return None
    try:
        manifest = json.loads((entry / MANIFEST).read_bytes())
        facts: Facts = dict(manifest["facts"])
        for name, (size, checksum) in manifest["files"].items():
            if (entry / name).stat().st_size != size or _checksum(entry / name) != checksum:
                raise ValueError(f"{name} is not as it was written")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        if report_damage:
            logger.warning("%s is damaged and is made again: %s", entry, error)
        return None
    return facts


def _checksum(path: Path) -> int:
    checksum = 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            checksum = zlib.crc32(block, checksum)
    return checksum


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Hold the lock of this name; the system releases it when the process ends, however it does.

    Where the file system or the platform has no locks, nobody waits: entries are then made more than once,
    and the last one stays.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    try:
        file = path.open("a")
    except OSError as error:
        raise UserError(
            f"dataset_cache_dir: the lock {path} cannot be opened: {error.strerror or error}. Remove it, or "
            "name another folder."
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logger.info("Waiting for the process that prepares the same data")
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:
            logger.info("%s: no locks on this file system", path.parent)
        yield
