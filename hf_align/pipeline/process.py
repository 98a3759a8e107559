"""One step of a pipeline as a process: its output shown and kept, signals passed on to it.

On a terminal its output appears as the step writes it, progress bars included. In the log, and where there is
no terminal, a line that was written over shows its last form only.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import IO, Any, BinaryIO

from hf_align.runs.releases import SAID

_BLOCK = 2**16
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def run_process(arguments: Sequence[str], log: Path) -> tuple[int, int | None]:
    """Run ``arguments`` to the end; (its exit status, the signal that this process got meanwhile or None).

    What it writes, errors included, goes to this process's output and is added to the file ``log``.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", SAID: "1"}
    with log.open("ab") as file, _passed_on() as watched:
        process = subprocess.Popen(
            arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment
        )
        watched.process = process
        assert process.stdout is not None
        try:
            with process.stdout as output:
                _copy(output, file)
            return process.wait(), watched.signum
        except BaseException:  # a full disk, or a reader of our output who has gone
            process.terminate()
            process.wait()
            raise


def _copy(stream: IO[bytes], log: BinaryIO) -> None:
    """Show and keep everything that comes from ``stream`` until it ends."""
    live = sys.stdout.isatty()
    line = b""
    while block := os.read(stream.fileno(), _BLOCK):
        if live:
            _show(block)
        *whole, line = (line + block).split(b"\n")
        for text in whole:
            _keep(text, log, live)
        # A progress bar is one line for hours; only its last form counts.
        line = line[line.rfind(b"\r", 0, len(line) - 1) + 1 :]
    if line:
        _keep(line, log, live)


def _keep(line: bytes, log: BinaryIO, live: bool) -> None:
    text = line.rstrip(b"\r")
    text = text[text.rfind(b"\r") + 1 :].rstrip()
    log.write(text + b"\n")
    log.flush()
    if not live:
        _show(text + b"\n")


def _show(content: bytes) -> None:
    """Write to standard output as it is, also where that is no file of bytes (a notebook, a test)."""
    buffer = getattr(sys.stdout, "buffer", None)
    if buffer is None:
        sys.stdout.write(content.decode("utf-8", "replace"))
    else:
        sys.stdout.flush()
        buffer.write(content)
    sys.stdout.flush()


class _Watched:
    """The process that signals are passed on to, and the first that came."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self.signum: int | None = None

    def handle(self, signum: int, frame: FrameType | None) -> None:
        if self.signum is None:
            self.signum = signum
        if self.process is None:
            raise KeyboardInterrupt
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signum)


@contextlib.contextmanager
def _passed_on() -> Iterator[_Watched]:
    """While this lasts, SIGINT and SIGTERM go to the process, which saves what it has and ends by itself.

    A terminal sends Ctrl-C to both; a step that trains takes two in a moment for one. In another thread than
    the main one, where Python allows no handlers, signals stay as they are.
    """
    watched = _Watched()
    previous: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        previous = {signum: signal.signal(signum, watched.handle) for signum in _SIGNALS}
    try:
        yield watched
    finally:
        for signum, handler in previous.items():
            signal.signal(signum, handler)
