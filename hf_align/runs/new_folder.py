"""A folder that appears whole or not at all."""

from __future__ import annotations

import contextlib
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

    Raises UserError unless ``path`` is free at the start and at the end.
    """
    check_new_folder(path, key=key)
    target = Path(path).absolute()
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent))
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
        if target.is_dir():
            target.rmdir()
        temporary.rename(target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _sync(folder: Path) -> None:
    """Have everything on the disk before the folder gets its name."""
    for path in folder.rglob("*"):
        if path.is_file():
            with open(path, "rb") as stream:
                os.fsync(stream.fileno())
