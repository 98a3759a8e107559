"""Python code that a model writes, run against the row's tests in a process of its own, with limits.

The limits hold what goes wrong by accident: loops, memory, large files, and where the system allows it the
network. They are no wall: the code runs as you and can read, change and delete what you can. For models that
you do not trust, use a container or a virtual machine.
"""

from __future__ import annotations

import functools
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from hf_align.errors import UserError
from hf_align.rewards.calling import RowProblem

_FENCE = re.compile(r"```(?:python|py)?[ \t]*\n(.*?)(?:```|\Z)", re.DOTALL | re.IGNORECASE)

# Limits are set by the child itself before it reads any code: preexec_fn is not safe beside threads. An
# answer that leaves early, by exit(0) for example, has passed nothing: only the runner writes the proof.
_RUNNER = """
import sys
memory, seconds, size = map(int, sys.argv[1:4])
proof = sys.argv[4]
del sys.argv[1:]
try:
    import resource
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
except ImportError:
    pass
source = sys.stdin.read()
sys.stdin = open("/dev/null") if sys.platform != "win32" else None
opened = open("passed", "w")
exec(compile(source, "answer.py", "exec"), {"__name__": "__main__"})
opened.write(proof)
opened.close()
"""


def code(
    completions: Sequence[str],
    rows: Sequence[Mapping[str, Any]],
    *,
    column: str = "tests",
    seconds: int = 5,
    memory_mb: int = 1024,
    workers: int = 0,
) -> list[float]:
    """The share of the row's tests that the answer's code passes.

    ``column``: one text of Python (asserts, MBPP's and HumanEval's form), or a list of them, each of which
    counts. The code is the answer's last fence, or without a fence the whole answer. Each test has
    ``seconds`` and ``memory_mb`` of its own. ``workers``: processes at a time; 0: one for each core.
    """
    jobs = []
    for number, (completion, row) in enumerate(zip(completions, rows, strict=True)):
        given = row.get(column)
        tests = [given] if isinstance(given, str) else given
        if not isinstance(tests, list | tuple) or not tests or not all(isinstance(t, str) for t in tests):
            raise RowProblem(
                number,
                f"reward_functions: code: the row has no tests in its column '{column}'; expected Python as "
                f"text or a list of texts, found {type(given).__name__}",
            )
        jobs += [(number, f"{code_of(completion)}\n\n{test}\n") for test in tests]
    with ThreadPoolExecutor(max_workers=workers or os.cpu_count() or 1) as pool:
        passed = pool.map(lambda job: _passes(job[1], seconds, memory_mb), jobs)
        results = list(zip((number for number, _ in jobs), passed, strict=True))
    found = [[ok for number, ok in results if number == i] for i in range(len(completions))]
    return [sum(each) / len(each) for each in found]


def check_code(*, column: str = "tests", seconds: int = 5, memory_mb: int = 1024, workers: int = 0) -> None:
    """Raise UserError for options that cannot be."""
    for name, value, least in (
        ("seconds", seconds, 1),
        ("memory_mb", memory_mb, 64),
        ("workers", workers, 0),
    ):
        if value < least:
            raise UserError(f"reward_options: code: {name}: found {value}, expected at least {least}")


def code_of(text: str) -> str:
    """The last fenced block, or the whole text."""
    blocks = _FENCE.findall(text.rpartition("</think>")[2])
    return blocks[-1] if blocks else text


def _passes(source: str, seconds: int, memory_mb: int) -> bool:
    proof = secrets.token_hex(16)
    limits = [str(memory_mb * 2**20), str(seconds), str(2**24), proof]
    with tempfile.TemporaryDirectory(prefix="hf_align_code_") as folder:
        process = subprocess.Popen(
            [*_without_network(), sys.executable, "-I", "-S", "-c", _RUNNER, *limits],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            env={"PATH": "/usr/bin:/bin", "HOME": folder, "TMPDIR": folder, "LANG": "C.UTF-8"},
            start_new_session=True,
        )
        try:
            # A second more than the processor time, for starting Python.
            process.communicate(source.encode("utf-8", "replace"), timeout=seconds + 1)
        except subprocess.TimeoutExpired:
            return False
        finally:
            _kill(process)
        passed = Path(folder, "passed")
        return process.returncode == 0 and passed.is_file() and passed.read_bytes() == proof.encode()


def _kill(process: subprocess.Popen[bytes]) -> None:
    """The process and whatever it has started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        process.kill()
    process.wait()


@functools.cache
def _without_network() -> tuple[str, ...]:
    """The command in front that takes the network away, where the system lets an ordinary user do that."""
    unshare = shutil.which("unshare")
    if unshare is None:
        return ()
    command = (unshare, "--user", "--net", "--map-root-user")
    tried = subprocess.run([*command, "true"], capture_output=True, check=False)
    return command if tried.returncode == 0 else ()
