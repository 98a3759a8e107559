"""A step as a process: what is shown and kept of its output, and signals that are passed on."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from hf_align.pipeline.process import run_process


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_output_is_shown_and_kept_and_the_status_returned(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    code = "import sys; print('one'); print('two', file=sys.stderr); sys.exit(3)"
    assert run_process(python(code), tmp_path / "logs" / "a.log") == (3, None)
    assert (tmp_path / "logs" / "a.log").read_text() == "one\ntwo\n"
    assert capfd.readouterr().out == "one\ntwo\n"


def test_a_line_that_is_written_over_keeps_its_last_form(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "for i in range(200):\n    sys.stderr.write(f'\\rstep {i}')\n    sys.stderr.flush()\n"
        "print('\\ndone'); sys.stdout.write('no end')"
    )
    run_process(python(code), tmp_path / "a.log")
    assert (tmp_path / "a.log").read_text() == "step 199\ndone\nno end\n"


def test_a_signal_goes_to_the_process_which_ends_by_itself(tmp_path: Path) -> None:
    code = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: (print('saved'), sys.exit(143)))\n"
        "print('ready', flush=True)\ntime.sleep(60)"
    )
    log = tmp_path / "a.log"

    def stop() -> None:
        while not log.exists() or "ready" not in log.read_text():
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=stop, daemon=True).start()
    before = signal.getsignal(signal.SIGTERM)
    assert run_process(python(code), log) == (143, signal.SIGTERM)
    assert log.read_text() == "ready\nsaved\n"
    assert signal.getsignal(signal.SIGTERM) is before
