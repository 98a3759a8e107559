"""How many processes a run has, and that it has as many as it was started for."""

from __future__ import annotations

import logging
import os
import warnings

from hf_align.errors import UserError


def start(*, use_cpu: bool) -> bool:
    """Join the other processes, if any; returns whether this is the main one.

    Raises UserError where the number of processes is not the one that the environment variable ``NPROC``
    announces: launchers that start too few train on part of the data without saying so.
    """
    from accelerate import PartialState

    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    _silence_what_does_not_concern_training()
    state = PartialState(cpu=use_cpu)
    logging.getLogger("hf_align").setLevel(logging.INFO if state.is_main_process else logging.ERROR)
    expected = os.environ.get("NPROC", "1") or "1"
    if not expected.isdigit() or int(expected) < 1:
        raise UserError(f"NPROC: found '{expected}', expected a number of processes")
    if int(expected) > 1 and state.num_processes != int(expected):
        raise UserError(
            f"NPROC={expected}, but {state.num_processes} process(es) work together. On CPUs start them with "
            "`torchrun --nproc-per-node N -m hf_align …` and `--use_cpu true`."
        )
    return bool(state.is_main_process)


def _silence_what_does_not_concern_training() -> None:
    # bitsandbytes on a CPU looks for a kernel that only inference uses.
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
    # PEFT asks transformers for a property by its older name.
    warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)


def wait_for_everyone() -> None:
    """Return once every process has come here."""
    from accelerate import PartialState

    PartialState().wait_for_everyone()
