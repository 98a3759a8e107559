"""A folder that appears whole or not at all."""

from __future__ import annotations

import contextlib
import glob
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from hf_align.errors import UserError


def check_new_folder(path: str | os.PathLike[str], *, key: str) -> None:
    """Raise UserError, naming the option ``key``, unless ``path`` is free: not there, or an empty folder."""
    folder = Path(path)
    if folder.is_dir():
        inside = sorted(entry.name for entry in folder.iterdir())
        if inside:
            listed = ", ".join(inside[:4]) + (" …" if len(inside) > 4 else "")
            raise UserError(f"{key}: '{folder}' is not empty ({listed}); expected a new or an empty folder")
    elif folder.exists() or folder.is_symlink():
        raise UserError(f"{key}: '{folder}' is a file; expected a new or an empty folder")


@contextlib.contextmanager
def new_folder(path: str | os.PathLike[str], *, key: str) -> Iterator[Path]:
    """A temporary folder beside ``path``, which takes its place at the end and is removed after an error.

    A link stays a link: the folder that it names is replaced. What a killed process left is removed first.

    Raises UserError unless ``path`` is free at the start and at the end.
    """
    check_new_folder(path, key=key)
    target = Path(path).resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(target)
    temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent))
    held = _lock(temporary)
    try:
        yield temporary
        _sync(temporary)
        # mkdtemp and safetensors make what they write private; this is to be shared like any other folder.
        mask = os.umask(0)
        os.umask(mask)
        for entry in temporary.rglob("*"):
            entry.chmod((0o777 if entry.is_dir() else 0o666) & ~mask)
        temporary.chmod(0o777 & ~mask)
        check_new_folder(path, key=key)
        _move_into_place(temporary, target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    finally:
        if held is not None:
            os.close(held)


def _move_into_place(temporary: Path, target: Path) -> None:
    stays = target.is_dir() and (target.is_mount() or target == Path.cwd())
    if not stays:
        if target.is_dir():
            target.rmdir()
        temporary.rename(target)
        return
    # A mount point and the working directory cannot be replaced, only filled.
    for path in sorted(temporary.iterdir()):
        shutil.move(path, target / path.name)
    temporary.rmdir()


def _remove_leftovers(target: Path) -> None:
    """Remove what killed processes left of earlier attempts at ``target``; their locks are free."""
    for left in target.parent.glob(f".{glob.escape(target.name)}.*.part"):
        if left.is_dir() and (held := _lock(left)) is not None:
            try:
                shutil.rmtree(left, ignore_errors=True)
            finally:
                os.close(held)


def _lock(folder: Path) -> int | None:
    """A descriptor that holds the lock of ``folder`` itself; None where another process has it."""
    try:
        import fcntl
    except ImportError:
        return None
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # held, or a file system without locks, where nobody can tell
        os.close(descriptor)
        return None
    return descriptor


def _sync(folder: Path) -> None:
    """Have everything on the disk before the folder gets its name."""
    for path in folder.rglob("*"):
        if path.is_file():
            with open(path, "rb") as stream:
                os.fsync(stream.fileno())
