"""What of this package and its libraries takes part in computing something that is kept for other runs."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
from pathlib import Path

import hf_align

_PACKAGES = ("torch", "transformers", "bitsandbytes", "numpy")


@functools.cache
def code_digest(*patterns: str) -> dict[str, str]:
    """Versions of the libraries, and a hash of the files of this package that match ``patterns``.

    Raises ValueError for a pattern that matches none: code that has moved would no longer count.
    """
    package = Path(hf_align.__file__).parent
    digest = hashlib.blake2b(digest_size=16)
    for pattern in patterns:
        found = sorted(package.glob(pattern))
        if not found:
            raise ValueError(f"no file of this package matches {pattern!r}")
        for path in found:
            content = path.read_bytes()
            digest.update(f"{path.relative_to(package).as_posix()} {len(content)} ".encode())
            digest.update(content)
    versions = {name: importlib.metadata.version(name) for name in _PACKAGES}
    return {**versions, "hf_align": digest.hexdigest()}
