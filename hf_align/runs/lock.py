"""One run at a time in a run folder: a lock on a file in it, which says whose it is.

The system releases the lock when the process ends, however it does, so that a file that a kill left behind
keeps nobody out. One process of a run takes the lock for all. Processes that are forked do not keep it alive.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import platform
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, ParamSpec, TypeVar

from hf_align.errors import UserError

logger = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

LOCK_FILE = ".run.lock"
_SHOWN = 120
_held: dict[Path, tuple[IO[str], bool]] = {}
"""What this process holds, by the resolved folder, and whether it made that folder."""


def take(output_dir: str | os.PathLike[str]) -> None:
    """Hold the lock of ``output_dir`` until :func:`release`; the folder is made where it is missing.

    Raises UserError where another process holds it, naming that process, and where the folder cannot be made.
    Without locks on this platform or file system nothing is checked. A process may take a lock twice.
    """
    made = _make(Path(output_dir))
    folder = Path(output_dir).resolve()
    if folder in _held:
        return
    try:
        import fcntl
    except ImportError:
        return
    path = folder / LOCK_FILE
    while True:
        try:
            file = path.open("a+", encoding="utf-8")
        except OSError as error:
            raise UserError(
                f"output_dir: '{output_dir}' cannot be written to: {error.strerror or error}; choose another "
                "folder"
            ) from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with file:
                raise UserError(
                    f"output_dir: {_owner(file)} writes to '{output_dir}'; wait for it, or choose another "
                    "folder"
                ) from None
        except OSError as error:
            file.close()
            path.unlink(missing_ok=True)
            logger.info("%s: no locks on this file system (%s)", output_dir, error.strerror)
            return
        if _is_file(path, file):
            break
        file.close()  # its holder removed it between the two calls
    file.truncate(0)
    file.write(f"process {os.getpid()} on {platform.node()} ({' '.join(sys.argv)})"[:_SHOWN])
    file.flush()
    _held[folder] = file, made


def release(folder: Path) -> None:
    """Give the lock of a resolved folder back; a folder that was made for it and got nothing else goes
    too."""
    file, made = _held.pop(folder)
    with file, contextlib.suppress(OSError):  # the folder may be gone, or have something in it
        (folder / LOCK_FILE).unlink()
        if made:
            folder.rmdir()


def releases_folders(run: Callable[P, T]) -> Callable[P, T]:
    """A command's ``run`` that gives back, however it ends, the locks that it took."""

    @functools.wraps(run)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        before = set(_held)
        try:
            return run(*args, **kwargs)
        finally:
            for folder in set(_held) - before:
                release(folder)

    return wrapped


def _make(folder: Path) -> bool:
    """Make ``folder`` where it is missing; whether it was."""
    missing = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"output_dir: '{folder}' cannot be made: {error.strerror or error}; choose another folder"
        ) from error
    return missing


def _owner(file: IO[str]) -> str:
    """Who holds the lock, in the words that it wrote there."""
    file.seek(0)
    said = file.read(2 * _SHOWN)
    return "".join(char if char.isprintable() else "?" for char in said).strip() or "another process"


def _is_file(path: Path, file: IO[str]) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _forget() -> None:
    """In a forked process: the lock is the parent's, and ends with it."""
    for file, _ in _held.values():
        file.close()
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
