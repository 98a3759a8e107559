"""One run of a stage: its recipe, data and record, and the machine it runs on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_align.runs import folder as run_folder
from hf_align.runs import processes, signals

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from hf_align.config import TrainingConfig
    from hf_align.modeling.precision import Precision


@dataclass(frozen=True)
class Machine:
    """Where this process runs: on a CPU or not, whether it is the main one, and in which precision."""

    use_cpu: bool
    main: bool
    precision: Precision


@dataclass(frozen=True)
class Run:
    """One run of a stage: its recipe, its data, its record, and the checkpoint it goes on from, if any."""

    command: str
    config: Any
    machine: Machine
    tokenizer: PreTrainedTokenizerBase
    data: Any
    identity: dict[str, Any]
    checkpoint: Path | None
    record: run_folder.RunRecord

    @property
    def training(self) -> TrainingConfig:
        training: TrainingConfig = self.config.training
        return training

    @contextlib.contextmanager
    def watched(self) -> Iterator[signals.StopRequest]:
        """Signals ask the run to save and stop; whatever else ends it is noted in its record."""
        resumed_by = processes.command_to_resume(self.command, self.config)
        with (
            signals.StopRequest(main=self.machine.main) as stop,
            run_folder.marked_if_cut_short(self.record, resumed_by),
        ):
            yield stop
