"""Checkpoints on disk: which ones are complete, setting half-written ones aside, removing old ones safely.

A checkpoint is complete when ``trainer_state.json`` parses and the weights, the optimizer, the schedule and
the random states of every process are there and whole. It is used, and makes an older one removable, only
then. What this module leaves out: whether a checkpoint belongs to a run (``resume``).
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import shutil
import zipfile
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from hf_align.errors import UserError
from hf_align.runs import processes as launch
from hf_align.runs.checkpoint_digests import what_is_damaged, write_digests

logger = logging.getLogger(__name__)

STATE_FILE = "trainer_state.json"
WEIGHTS = ("model.safetensors", "adapter_model.safetensors")
# A folder with such a name is never taken for a checkpoint, by this package or by transformers.
INCOMPLETE, DAMAGED, LATER, DELETED = "incomplete", "damaged", "later", "deleted"
PROCESSES_FILE = ".processes.part"
"""There for a moment, to see whether all processes see the same folder."""
_TEMPORARY_FILES = (PROCESSES_FILE, ".config.json.part")


def all_checkpoints(output_dir: str | Path) -> list[Path]:
    """The folders ``checkpoint-<step>`` in ``output_dir``, complete or not, by step."""
    found = [f for f in Path(output_dir).glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", f.name)]
    return sorted(found, key=step_of)


def step_of(checkpoint: Path) -> int:
    """The step that a checkpoint folder is named after."""
    return int(checkpoint.name.rpartition("-")[2])


def newest_complete(output_dir: str | Path) -> Path | None:
    """The complete checkpoint with the highest step, if there is one."""
    return next((f for f in reversed(all_checkpoints(output_dir)) if not what_is_missing(f)), None)


def what_is_missing(checkpoint: Path) -> str:
    """What keeps ``checkpoint`` from being complete, in words; an empty string where it is complete."""
    if not checkpoint.is_dir():
        return "there is no such folder"
    try:
        state = read_state(checkpoint)
    except (OSError, ValueError):
        return f"{STATE_FILE} is missing or broken"
    return (
        _weights_problem(checkpoint)
        or _optimizer_problem(checkpoint)
        or _random_states_problem(checkpoint, saved_identity(state).get("processes"))
    )


def read_state(checkpoint: Path) -> dict[str, Any]:
    """The content of ``trainer_state.json``. Raises OSError or ValueError where it is missing or broken."""
    state = json.loads((checkpoint / STATE_FILE).read_text(encoding="utf-8"))
    if not isinstance(state, dict) or "global_step" not in state:
        raise ValueError(f"{STATE_FILE} is not a trainer's state")
    return state


def saved_identity(state: dict[str, Any]) -> dict[str, Any]:
    """What ``resume.RunIdentity`` put into a checkpoint; empty where it was written without it."""
    entry = (state.get("stateful_callbacks") or {}).get("RunIdentity") or {}
    identity = (entry.get("attributes") or {}).get("identity")
    return identity if isinstance(identity, dict) else {}


def is_sharded(checkpoint: Path) -> bool:
    """Whether every process wrote its own part of weights and optimizer (FSDP, DeepSpeed)."""
    return any(checkpoint.glob("pytorch_model_fsdp_*")) or (checkpoint / "latest").is_file()


def _weights_problem(folder: Path) -> str:
    for name in WEIGHTS:
        index = folder / f"{name}.index.json"
        if (folder / name).is_file():
            return _safetensors_problem(folder / name)
        if index.is_file():
            try:
                shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
            except (OSError, ValueError, KeyError, AttributeError):
                return f"{index.name} is broken"
            return next(filter(None, (_safetensors_problem(folder / s) for s in sorted(shards))), "")
    if is_sharded(folder):
        return ""
    return "no weights (" + " or ".join(WEIGHTS) + ")"


def _safetensors_problem(path: Path) -> str:
    """Header and length only: 8 bytes with the length of the header, the header, and the tensors."""
    try:
        with path.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            size = path.stat().st_size
            if not 2 <= length <= size - 8:
                return f"{path.name} is cut off"
            header = json.loads(stream.read(length))
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    except FileNotFoundError:
        return f"{path.name} is missing"
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return f"{path.name} is broken"
    return "" if 8 + length + max(ends, default=0) == size else f"{path.name} is cut off"


def _optimizer_problem(folder: Path) -> str:
    shards = sorted(folder.glob("pytorch_model_fsdp_*")) + sorted(folder.glob("optimizer_*"))
    if shards:
        # torch.distributed.checkpoint writes .metadata last, once every process has written its part.
        missing = [s.name for s in shards if s.is_dir() and not (s / ".metadata").is_file()]
        if missing or not any(s.name.startswith("optimizer_") for s in shards):
            return f"{missing[0] if missing else 'optimizer_0'} is not whole"
    elif (folder / "latest").is_file():
        # DeepSpeed names the folder in "latest" after every process has written its part.
        named = (folder / "latest").read_text(encoding="utf-8", errors="replace").strip()
        if not named or not any((folder / named).glob("*optim_states.pt")):
            return "DeepSpeed's optimizer states are missing"
        return ""
    elif not (folder / "optimizer.pt").exists() and not (folder / "optimizer.bin").exists():
        return "no optimizer (optimizer.pt)"
    single = [folder / name for name in ("optimizer.pt", "optimizer.bin") if (folder / name).exists()]
    return next(filter(None, map(_torch_file_problem, [*single, folder / "scheduler.pt"])), "")


def _random_states_problem(folder: Path, processes: int | None) -> str:
    if processes is None:  # written without an identity: one process, or an unknown number of them
        if (folder / "rng_state.pth").is_file() or not any(folder.glob("rng_state_*.pth")):
            return _torch_file_problem(folder / "rng_state.pth")
        files = sorted(folder.glob("rng_state_*.pth"))
    elif processes == 1:
        files = [folder / "rng_state.pth"]
    else:
        files = [folder / f"rng_state_{rank}.pth" for rank in range(processes)]
    return next(filter(None, map(_torch_file_problem, files)), "")


def _torch_file_problem(path: Path) -> str:
    """torch.save writes a zip archive, whose directory is at its end: a file that was cut off has none."""
    if not path.is_file():
        return f"{path.name} is missing"
    return "" if zipfile.is_zipfile(path) else f"{path.name} is cut off"


def set_aside(folder: Path, why: str) -> Path:
    """Rename a checkpoint so that nothing picks it up: ``<why>-checkpoint-<step>``."""
    target = folder.with_name(f"{why}-{folder.name}")
    count = 1
    while target.exists():
        count += 1
        target = folder.with_name(f"{why}-{folder.name}.{count}")
    folder.rename(target)
    return target


def set_aside_incomplete(output_dir: str | Path) -> None:
    """Report every half-written checkpoint in ``output_dir`` and set it aside; nothing is deleted."""
    for folder in all_checkpoints(output_dir):
        missing = what_is_missing(folder)
        if missing:
            moved = set_aside(folder, INCOMPLETE)
            logger.warning(
                "%s is not a complete checkpoint (%s); it is not used and now called %s",
                folder,
                missing,
                moved.name,
            )


def newest_undamaged(output_dir: str | Path) -> Path | None:
    """As :func:`newest_complete`; those whose files have changed since are reported and set aside."""
    while (folder := newest_complete(output_dir)) is not None and (damage := what_is_damaged(folder)):
        moved = set_aside(folder, DAMAGED)
        logger.warning("%s is damaged (%s); it is not used and now called %s", folder, damage, moved.name)
    return folder


def delete(folder: Path) -> None:
    """Remove a checkpoint. Killed on the way, it leaves a folder that is no checkpoint any more."""
    shutil.rmtree(set_aside(folder, DELETED))


def remove_leftovers(output_dir: str | Path) -> None:
    """Finish what a killed process had begun: removals of old checkpoints, and temporary files."""
    folder = Path(output_dir)
    for half_deleted in folder.glob(f"{DELETED}-checkpoint-*"):
        shutil.rmtree(half_deleted)
    for part in folder.iterdir():
        if not is_leftover(part.name):
            continue
        if part.is_dir() and not part.is_symlink():
            shutil.rmtree(part)
        else:
            part.unlink(missing_ok=True)


def is_leftover(name: str) -> bool:
    """Whether ``name`` is that of a temporary file, which a killed process leaves in a run folder."""
    return name in _TEMPORARY_FILES or re.fullmatch(r"\..+\.\w{3,}\.part", name) is not None


def flush(folder: Path) -> None:
    """Return once everything under ``folder`` is on the disk, and its entry in the folder above too."""
    for path in folder.rglob("*"):
        if path.is_file():
            flush_file(path)
    for directory in [*(path for path in folder.rglob("*") if path.is_dir()), folder, folder.parent]:
        # Some network file systems refuse to flush a folder, and need no flush of it.
        with contextlib.suppress(OSError):
            flush_file(directory)


def flush_file(path: Path) -> None:
    """Wait until a file, or the entries of a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class CheckpointKeeper(TrainerCallback):
    """After each save: wait for every process, flush, verify, and only then remove older checkpoints.

    Trainer's own limit is off, since it removes older checkpoints while other processes still write the new
    one. ``limit``: checkpoints to keep, None for all; the newest is always kept, and so are the best one and
    those of the steps that ``also_keep`` gives.
    ``also_flush``: files of the run folder that a checkpoint relies on. ``saved``: called on the main process
    with each new complete checkpoint.
    """

    def __init__(
        self,
        limit: int | None,
        *,
        keep_best: bool,
        also_flush: tuple[Path, ...] = (),
        saved: Callable[[Path], None] = lambda checkpoint: None,
        also_keep: Callable[[], Collection[int]] = tuple,
    ) -> None:
        self.limit = limit
        self.keep_best = keep_best
        self.also_flush = also_flush
        self.saved = saved
        self.also_keep = also_keep

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        launch.wait_for_everyone()
        checkpoint = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        if state.is_local_process_zero:
            # Every machine flushes what its own processes wrote.
            for path in self.also_flush:
                if path.is_file():
                    flush_file(path)
            if checkpoint.is_dir():
                flush(checkpoint)
        launch.wait_for_everyone()
        if not state.is_world_process_zero:
            return
        missing = what_is_missing(checkpoint)
        if missing:
            raise UserError(
                f"{checkpoint} was saved but is not complete: {missing}. Every process must write to the "
                f"same output_dir, '{args.output_dir}'; with several machines it has to be on a file system "
                "that they share. Older checkpoints are untouched."
            )
        write_digests(checkpoint)
        self.saved(checkpoint)
        self._rotate(args.output_dir, checkpoint, state.best_global_step if self.keep_best else None)

    def _rotate(self, output_dir: str, newest: Path, best_step: int | None) -> None:
        if self.limit is None:
            return
        kept = all_checkpoints(output_dir)
        protected = {newest.name, *(f"checkpoint-{step}" for step in (best_step, *self.also_keep()))}
        removable = [folder for folder in kept if folder.name not in protected]
        surplus = len(kept) - max(self.limit, len(kept) - len(removable))
        for folder in removable[: max(0, surplus)]:
            delete(folder)
