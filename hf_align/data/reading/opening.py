"""Opens files, compressed ones too, and fetches remote ones once.

A compressed file has the ending of its compression behind that of its kind: ``rows.jsonl.gz``, ``.bz2``,
``.zst``, ``.lz4``. Anything with ``://`` is fetched by fsspec (``https://``, ``s3://``, ``gs://``, ``hf://``,
…) into the cache, and again when it has changed there.
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import BinaryIO, cast

from hf_align.errors import UserError

COMPRESSED = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd", ".lz4": "lz4"}
"""Ending to pyarrow's name."""


def kind_of(path: Path) -> str:
    """The ending that says what is in a file, in lower case, without that of its compression."""
    inner = Path(path.stem) if path.suffix.lower() in COMPRESSED else path
    return inner.suffix.lower()


def ending(path: Path) -> str:
    """``kind_of`` with the ending of the compression: all that a file's name says of its content."""
    packed = path.suffix.lower()
    return kind_of(path) + (packed if packed in COMPRESSED else "")


def open_bytes(path: Path) -> BinaryIO:
    """The content of a file, unpacked. Raises OSError where it cannot be read; so does reading what is
    damaged."""
    compression = COMPRESSED.get(path.suffix.lower())
    if compression is None:
        return path.open("rb")
    import pyarrow

    try:
        # The empty file is refused by some compressions, and has no rows in all of them.
        if path.stat().st_size == 0:
            return io.BytesIO()
        stream = pyarrow.input_stream(str(path), compression=compression)
    except pyarrow.ArrowException as error:
        raise OSError(str(error)) from error
    return cast(BinaryIO, io.BufferedReader(_Unpacked(stream)))


class _Unpacked(io.RawIOBase):
    """A stream of pyarrow whose errors are OSError."""

    def __init__(self, stream: io.RawIOBase) -> None:
        self.stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        try:
            found = self.stream.read(len(buffer))
        except ValueError as error:  # pyarrow's errors of content are ValueErrors
            raise OSError(f"damaged, or not compressed so: {error}") from error
        size = len(found or b"")
        buffer[:size] = found or b""
        return size

    def close(self) -> None:
        self.stream.close()
        super().close()


def fetched(address: str, folder: Path) -> Path:
    """The file at ``address``, copied to ``folder`` unless it is there and has not changed since.

    Raises UserError where it cannot be had, or where a package for its kind of address is missing.
    """
    import fsspec

    protocol = address.partition("://")[0]
    try:
        files = fsspec.filesystem(
            "filecache",
            target_protocol=protocol,
            cache_storage=str(folder),
            check_files=True,
            same_names=False,
        )
        with files.open(address) as file:
            copy = Path(file.name)
    except ImportError as error:
        raise UserError(f"{address}: addresses of this kind need another package: {error}") from error
    except ValueError as error:
        raise UserError(f"{address}: {error}") from error
    except Exception as error:  # of the network, or of the client, each with types of its own
        said = " ".join(str(error).split())[:300]
        raise UserError(f"{address}: could not be fetched: {type(error).__name__}: {said}") from error
    # A name by which readers know the kind of the file, and people its origin.
    named = copy.with_name(f"{copy.name[:16]}-{address.rstrip('/').rpartition('/')[2]}")
    if not named.exists() or named.stat().st_mtime_ns < copy.stat().st_mtime_ns:
        part = named.with_name(f"{named.name}.part")
        part.unlink(missing_ok=True)
        try:
            os.link(copy, part)
        except OSError:  # a file system without links
            import shutil

            shutil.copyfile(copy, part)
        os.replace(part, named)
    return named
