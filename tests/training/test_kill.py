"""A few kills of the kill test; ``make test-kill`` does a hundred."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "kill_test.py"


@pytest.mark.skipif(not hasattr(__import__("os"), "waitid"), reason="needs waitid, as Linux has it")
def test_killed_runs_end_with_the_same_bits() -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--count", "3", "--seed", "5"],
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    summary = done.stdout.splitlines()[-1]
    assert summary.startswith("kill-test: kills=3 ")
    assert "FAILED" not in done.stdout
