"""Ctrl-C and SIGTERM: finish the step, save, stop; and at once where there is nothing to finish.

Outside of training a signal stops the run at once. While training it is noted, all processes agree on the
step after which they stop, and a checkpoint is saved there. A second Ctrl-C stops at once. What this module
leaves out: signals in a thread other than the main one, where Python allows no handlers.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any

import torch
from transformers import TrainerCallback

# A launcher passes on the Ctrl-C that the terminal has sent to its processes already.
SAME_KEYSTROKE_SECONDS = 1.0


class Stopped(SystemExit):
    """A run that a signal ended; the exit status is what a shell reports: 128 + the signal."""

    def __init__(self, signum: int) -> None:
        super().__init__(128 + signum)
        self.signum = signum


class StopRequest:
    """Handles SIGINT and SIGTERM while used as a context; ``signum`` is the signal that came, or None."""

    def __init__(self, *, main: bool = True) -> None:
        self.signum: int | None = None
        self.main = main
        self._training = False
        self._first = 0.0
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for signum in (signal.SIGINT, signal.SIGTERM):
                self._previous[signum] = signal.signal(signum, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for signum, handler in self._previous.items():
            signal.signal(signum, handler)
        self._previous.clear()

    @contextlib.contextmanager
    def training(self) -> Iterator[None]:
        """While this lasts, a signal is noted for :class:`SaveAndStop`. Raises Stopped at its end, if so."""
        self._training = True
        try:
            yield
        finally:
            self._training = False
        if self.signum is not None:
            raise Stopped(self.signum)

    def agreed(self, device: torch.device) -> int | None:
        """The signal that any process got, or None; every process has to ask, and learns the same.

        One that comes while they talk counts the next time. ``device``: where processes exchange tensors.
        """
        if not (torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1):
            return self.signum
        flag = torch.tensor([self.signum or 0], device=device)
        torch.distributed.all_reduce(flag, op=torch.distributed.ReduceOp.MAX)
        found = int(flag.item()) or None
        if found is not None:
            self.signum = found
        return found

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._training and self.signum is None:
            self.signum = signum
            self._first = now
            if self.main:
                name = "Ctrl-C" if signum == signal.SIGINT else signal.Signals(signum).name
                # Not print: a handler may interrupt another print.
                os.write(2, f"\n{name}: finishing the step, then saving. Ctrl-C stops at once.\n".encode())
            return
        if self._training and (signum != signal.SIGINT or now - self._first < SAME_KEYSTROKE_SECONDS):
            return
        if signum == signal.SIGINT:
            raise KeyboardInterrupt
        raise Stopped(signum)


class SaveAndStop(TrainerCallback):
    """When to save, beyond the recipe's schedule: at a stop, and at the end of an epoch after its evaluation.

    Trainer saves a step's checkpoint before the evaluation at the end of the epoch. A run resumed from such a
    checkpoint would never make that evaluation; so the last step of an epoch is saved after it.
    """

    def __init__(self, stop: StopRequest) -> None:
        self.stop = stop
        self._due = False
        self._steps = 0
        self._saved_early = False

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._due = self._saved_early = False
        self._steps = 0
        if state.global_step >= state.max_steps:
            # Resumed from its last checkpoint: nothing is left to train (AlignTrainer takes no more rows).
            control.should_training_stop = True

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._steps += 1
        if self.stop.agreed(args.device) is not None:
            control.should_training_stop = True
            control.should_save = True
            self._saved_early = not _ends_epoch(state)
        if control.should_save and _ends_epoch(state):
            control.should_save = False
            self._due = True

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self._saved_early or not self._steps:
            control.should_evaluate = control.should_save = False
        elif self._due:
            control.should_save = True
        self._due = False


def _ends_epoch(state: Any) -> bool:
    return state.global_step >= state.max_steps or float(state.epoch).is_integer()
