"""Digests of the files of a checkpoint, kept in it: what a disk or a copy has changed since is found.

And reading what PyTorch has pickled without running code of it. What this leaves out: which files a
checkpoint has to have (``checkpoints``).
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import torch

from hf_align.errors import UserError

DIGESTS_FILE = "digests.json"
_ALGORITHM = "sha256"
_PICKLED = (".pt", ".pth", ".bin")
_NEVER_READ = "training_args.bin"


def write_digests(checkpoint: Path) -> None:
    """Write the digests of all files in ``checkpoint``, which are whole."""
    found = {
        str(path.relative_to(checkpoint)): _digest(path)
        for path in sorted(checkpoint.rglob("*"))
        if path.is_file() and path.name != DIGESTS_FILE
    }
    part = checkpoint / f".{DIGESTS_FILE}.part"
    with part.open("w", encoding="utf-8") as stream:
        json.dump({"algorithm": _ALGORITHM, "files": found}, stream, indent=1)
        stream.flush()
        os.fsync(stream.fileno())
    part.replace(checkpoint / DIGESTS_FILE)


def what_is_damaged(checkpoint: Path) -> str:
    """What differs from what was saved, or cannot be read as plain data, in words; empty where nothing does.

    A checkpoint of an older release, or one whose saving was cut short behind its last file, has no digests.
    """
    listed = checkpoint / DIGESTS_FILE
    if listed.is_file():
        try:
            files: dict[str, str] = json.loads(listed.read_text(encoding="utf-8"))["files"]
            changed = [name for name, digest in files.items() if _differs(checkpoint / name, digest)]
        except (ValueError, KeyError, TypeError, AttributeError):
            return f"{DIGESTS_FILE} is broken"
        if changed:
            more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
            return f"{changed[0]}{more} is not as it was saved"
    for path in sorted(checkpoint.iterdir()):
        if path.suffix in _PICKLED and path.name != _NEVER_READ:
            try:
                load_plain(path, mmap=True)
            except UserError as error:
                return str(error).removeprefix(f"{checkpoint}/")
    return ""


def load_plain(path: Path, *, mmap: bool = False) -> Any:
    """What PyTorch has saved in ``path``: tensors and plain values. ``mmap``: tensors are not read yet.

    Raises UserError where the file is broken or holds anything else: loading that would run its code.
    """
    from transformers.trainer_pt_utils import safe_globals

    try:
        with safe_globals():  # the arrays of random states
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except Exception as error:  # a pickle is a program, and may fail in any way
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        raise UserError(f"{path} holds something else than tensors and plain values ({reason})") from error


def _differs(path: Path, digest: str) -> bool:
    return not path.is_file() or _digest(path) != digest


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, _ALGORITHM).hexdigest()
