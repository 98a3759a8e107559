"""How many processes a run has, that it has as many as it was started for, and what one decides for all."""

from __future__ import annotations

import json
import logging
import os
import shlex
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

from hf_align.config import Recipe
from hf_align.errors import UserError

logger = logging.getLogger(__name__)

T = TypeVar("T")

EXIT_USER_ERROR = 2


def start(*, use_cpu: bool) -> bool:
    """Join the other processes, if any; returns whether this is the main one.

    Raises UserError where the number of processes is not the one that the environment variable ``NPROC``
    announces: launchers that start too few train on part of the data without saying so.
    """
    from accelerate import PartialState

    from hf_align.runs.memory import keep_freed_memory, limit_compiled_products

    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    # PEFT asks transformers for a property by its older name.
    warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
    # PEFT says that it saves embeddings which were resized or are trained, as it should.
    warnings.filterwarnings("ignore", message="Setting `save_embedding_layers` to `True`")
    if use_cpu:
        keep_freed_memory()
        limit_compiled_products()
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
    _note_idle_gpus(state)
    return bool(state.is_main_process)


def _note_idle_gpus(state: Any) -> None:
    """A line in the log where a process alone leaves GPUs of the machine unused."""
    import torch

    if state.device.type == "cuda" and state.num_processes == 1 and (gpus := torch.cuda.device_count()) > 1:
        logger.info("one of %d GPUs is used; NPROC=%d starts a process for each", gpus, gpus)


def wait_for_everyone() -> None:
    """Return once every process has come here."""
    from accelerate import PartialState

    PartialState().wait_for_everyone()


def on_main(decide: Callable[[], T]) -> T:
    """What ``decide()`` returns on the main process, on every process; only the main one calls it.

    For decisions that read and rename files: made by each process for itself, they would race. A UserError
    is raised on the main process; the others exit with its status, so that it is printed once.
    """
    from accelerate import PartialState
    from accelerate.utils import broadcast_object_list

    if PartialState().num_processes == 1:
        return decide()
    outcome: list[Any] = [None, False]
    if not PartialState().is_main_process:
        broadcast_object_list(outcome)
        if outcome[1]:
            raise SystemExit(EXIT_USER_ERROR)
        return cast(T, outcome[0])
    try:
        outcome[0] = decide()
    except BaseException:
        outcome[1] = True
        raise
    finally:
        broadcast_object_list(outcome)
    return cast(T, outcome[0])


def command_to_resume(command: str, recipe: Recipe) -> str:
    """The shell command that continues the run of ``recipe``, as far as a process can know how it began."""
    overrides: dict[str, Any] = {**recipe.overrides, "resume_from_checkpoint": "auto"}
    overrides.pop("force_resume", None)
    arguments = [command, *(["--config", recipe.recipe_path] if recipe.recipe_path else [])]
    for key, value in overrides.items():
        # Texts are read as they stand, everything else as YAML, of which JSON is a part.
        arguments += [f"--{key}", value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)]
    size = os.environ.get("WORLD_SIZE", "1")
    if size == "1":
        return shlex.join([*program(), *arguments])
    one_machine = os.environ.get("LOCAL_WORLD_SIZE") == size
    if not one_machine or any(name.startswith("ACCELERATE_") for name in os.environ):
        return "the command that started it, with --resume_from_checkpoint auto"
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", size]
    return shlex.join([_python(), *launcher, "-m", "hf_align", *arguments])


def program() -> list[str]:
    """The words that start ``hf-align`` the way this process was started."""
    return ["hf-align"] if Path(sys.argv[0]).name == "hf-align" else [_python(), "-m", "hf_align"]


def _python() -> str:
    """The interpreter, by the short name that works in this folder."""
    here = Path.cwd()
    path = Path(sys.executable)
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
