"""Sums over steps that are logged as means; a checkpoint keeps them, so that resuming changes no metric."""

from __future__ import annotations

import time
from typing import Any

from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState

NAMES = ("loss", "steps", "tokens", "units", "seconds")
METRIC = "metric/"
"""What the names of the task's own sums begin with, so that they cannot meet the names above."""


class RunningSums(TrainerCallback, ExportableState):
    """``interval``: since the last line of metrics. ``total``: since the run began, over all its parts.

    Losses are means per unit of a step, the same on every process; tokens and units are counted over all
    processes; seconds are those of this process.
    """

    def __init__(self) -> None:
        self.interval = dict.fromkeys(NAMES, 0.0)
        self.total = dict.fromkeys(NAMES, 0.0)
        self._began = time.perf_counter()

    def add(self, **values: float) -> None:
        for name, value in values.items():
            self.interval[name] += value
            self.total[name] += value

    def add_metrics(self, sums: dict[str, float]) -> None:
        """Sums of the task's metrics over the units of a step."""
        for name, value in sums.items():
            for kept in (self.interval, self.total):
                kept[METRIC + name] = kept.get(METRIC + name, 0.0) + value

    @property
    def metrics(self) -> dict[str, float]:
        """The task's sums since the last line of metrics."""
        return {
            name.removeprefix(METRIC): value
            for name, value in self.interval.items()
            if name.startswith(METRIC)
        }

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._began = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """The whole step counts, with clipping and the optimizer; saving and evaluating do not."""
        self.add(seconds=time.perf_counter() - self._began)

    def start_interval(self) -> None:
        self.interval = dict.fromkeys(NAMES, 0.0)

    def state(self) -> dict[str, Any]:
        return {"args": {}, "attributes": {"interval": dict(self.interval), "total": dict(self.total)}}

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        # Trainer expects an entry for each callback that has a state, also in a checkpoint without one.
        entry = state.stateful_callbacks.setdefault(type(self).__name__, self.state())
        for name in ("interval", "total"):
            getattr(self, name).update(entry["attributes"][name])
