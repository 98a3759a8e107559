"""What a PPO run writes on its way: metrics and sample answers of every rollout, and where the time went."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from hf_align.rl.episodes import Episode
from hf_align.rl.report import ROLLOUT_SAMPLES_FILE
from hf_align.runs.metrics import METRICS_FILE, append_metrics, forget_after


class RunLog:
    """Writes on the main process only. ``earlier_seconds``: how long the run took before it was resumed."""

    def __init__(self, output_dir: str, *, main: bool, earlier_seconds: float) -> None:
        self.metrics = Path(output_dir) / METRICS_FILE
        self.samples = Path(output_dir) / ROLLOUT_SAMPLES_FILE
        self.main = main
        self.started = time.perf_counter() - earlier_seconds

    def write_metrics(self, rollout: int, metrics: Mapping[str, float]) -> None:
        """A line of metrics.jsonl; ``rollout`` is its step."""
        if self.main:
            seconds = round(time.perf_counter() - self.started, 3)
            append_metrics(self.metrics, {"step": rollout, "time_seconds": seconds, **metrics})

    def answers(self, rollout: int, prompts: Sequence[str], episodes: Sequence[Episode]) -> None:
        """The best, the middling and the worst answer of a rollout; ``prompts``: its texts by number."""
        if not self.main:
            return
        ranked = sorted(episodes, key=lambda episode: -episode.reward)
        shown = {id(one): one for one in (ranked[0], ranked[len(ranked) // 2], ranked[-1])}
        samples = [
            {
                "prompt": prompts[one.prompt],
                "answer": one.text,
                "reward": one.reward,
                "parts": one.parts,
                "stopped": one.stopped,
                "tokens": len(one.tokens),
            }
            for one in shown.values()
        ]
        append_metrics(self.samples, {"step": rollout, "samples": samples})

    def forget_after(self, rollout: int) -> None:
        """Take out answers of later rollouts: the run goes on from this one and writes them again."""
        if self.main:
            forget_after(self.samples, rollout)


class Clock:
    """Seconds since it was made, and between laps."""

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self.now = now
        self.start = self.last = now()
        self.laps: dict[str, float] = {}

    def lap(self, name: str) -> None:
        self.last, before = self.now(), self.last
        self.laps[name] = self.last - before

    @property
    def total(self) -> float:
        return max(self.last - self.start, 1e-9)
