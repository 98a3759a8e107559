"""One run at a time in a run folder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hf_align.errors import UserError
from hf_align.runs import lock

pytest.importorskip("fcntl")

HOLD = """
import os, sys, time
from hf_align.runs import lock
lock.take(sys.argv[1])
if sys.argv[2:] and not os.fork():
    time.sleep(60)  # a worker that outlives its parent
    os._exit(0)
print("held", os.getpid(), flush=True)
time.sleep(60)
"""


@pytest.fixture(autouse=True)
def released() -> Iterator[None]:
    yield
    for folder in list(lock._held):
        lock.release(folder)


def holder(folder: Path, *more: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder), *more],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None and process.stdout.readline().startswith("held")
    return process


def end(process: subprocess.Popen[str]) -> None:
    """End a holder and what it forked."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


def test_the_second_run_is_refused_with_the_first_ones_process(tmp_path: Path) -> None:
    first = holder(tmp_path / "run")
    try:
        for name in ("run", "link"):
            if name == "link":
                (tmp_path / "link").symlink_to("run")
            with pytest.raises(UserError, match=rf"process {first.pid} on .*writes to '.*{name}'"):
                lock.take(tmp_path / name)
    finally:
        end(first)
    lock.take(tmp_path / "run")  # a lock that a kill left behind keeps nobody out


def test_a_worker_that_outlives_a_killed_run_keeps_nobody_out(tmp_path: Path) -> None:
    first = holder(tmp_path / "run", "with a worker")
    try:
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
        time.sleep(0.1)
        lock.take(tmp_path / "run")
    finally:
        end(first)


def test_it_ends_with_the_command_and_leaves_nothing(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()

    @lock.releases_folders
    def run(*, fail: bool) -> None:
        for _ in range(2):
            lock.take(tmp_path / "made")
        lock.take(mine)
        if fail:
            raise RuntimeError

    run(fail=False)
    with pytest.raises(RuntimeError):
        run(fail=True)
    assert list(tmp_path.iterdir()) == [mine] and list(mine.iterdir()) == []
    end(holder(mine))


def test_what_a_file_says_of_its_holder_is_printable(tmp_path: Path) -> None:
    first = holder(tmp_path)
    try:
        (tmp_path / lock.LOCK_FILE).write_text("process 1 \x1b[31m")
        with pytest.raises(UserError, match=r"process 1 \?\[31m writes"):
            lock.take(tmp_path)
    finally:
        end(first)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be made"):
        lock.take(tmp_path / "file" / "run")
