"""What the benchmarks share: contenders in processes of their own, times, memory, and where results go."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

RESULTS = Path(__file__).parent / "results"


def write_results(name: str, raw: dict[str, Any], summary: dict[str, float | int | str]) -> None:
    """Write benchmarks/results/NAME.json and print the closing line ``bench-NAME: key=value key=value …``.

    ``raw``: every metric measured; machine and versions are added. ``summary``: the keys of the closing line.
    """
    from hf_align.runs.record import collect_machine, collect_versions, write_json

    content = {"machine": collect_machine(), "versions": collect_versions(), "raw": raw, "summary": summary}
    write_json(RESULTS / f"{name}.json", content)
    print(
        f"bench-{name}: " + " ".join(f"{key}={_shown(value)}" for key, value in summary.items()), flush=True
    )


def _shown(value: float | int | str) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"


class StepTimes:
    """Records when each optimizer step began and ended."""

    def __init__(self) -> None:
        from transformers import TrainerCallback

        times = self

        class Callback(TrainerCallback):
            def on_step_begin(self, *_: Any, **__: Any) -> None:
                times.begun.append(time.perf_counter())

            def on_step_end(self, *_: Any, **__: Any) -> None:
                times.ended.append(time.perf_counter())

        self.begun: list[float] = []
        self.ended: list[float] = []
        self.callback = Callback()


def run_worker(
    script: str, name: str, arguments: list[str], environment: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Run ``script --worker NAME`` with ``arguments`` in a process of its own; the JSON of its last line.

    ``environment``: variables that it has beside those of this process.
    """
    done = subprocess.run(
        [sys.executable, script, "--worker", name, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **(environment or {})},
    )
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr[-4000:]}")
    metrics: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return metrics


class MemoryWatch:
    """Samples the resident memory of this process and all its children, summed, until it is left.

    ``peak_bytes``: the largest sum met. Pages that processes share are counted once for each.
    ``peak_by_part``: (this process, all children) at that moment.
    """

    def __init__(self, seconds: float = 0.05) -> None:
        self.peak_bytes = 0
        self.peak_by_part = (0, 0)
        self.samples = 0
        self._seconds = seconds
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._sample()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._left.set()
        self._thread.join()
        self._sample()

    def _watch(self) -> None:
        while not self._left.wait(self._seconds):
            self._sample()

    def _sample(self) -> None:
        import psutil

        own = psutil.Process()
        children = 0
        for child in own.children(recursive=True):
            try:
                children += child.memory_info().rss
            except psutil.NoSuchProcess:  # it has ended since it was listed
                continue
        mine = own.memory_info().rss
        self.samples += 1
        if mine + children > self.peak_bytes:
            self.peak_bytes, self.peak_by_part = mine + children, (mine, children)
