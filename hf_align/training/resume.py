"""Continue an interrupted run from its last checkpoint, and refuse where that would not be the same run.

A checkpoint carries the identity of its run inside ``trainer_state.json``: the resolved recipe, a digest of
the training rows, the rows of an optimizer step and the number of processes. What this module leaves out:
what makes a checkpoint complete (``checkpoints``).
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState

from hf_align.config import Recipe, TrainingConfig
from hf_align.errors import UserError
from hf_align.runs import checkpoints
from hf_align.runs import folder as run_folder
from hf_align.runs.checkpoint_digests import what_is_damaged
from hf_align.runs.record import redact

logger = logging.getLogger(__name__)


class RunIdentity(TrainerCallback, ExportableState):
    """Stores :func:`run_identity` in every checkpoint's trainer state."""

    def __init__(self, identity: dict[str, Any]) -> None:
        self.identity = identity

    def state(self) -> dict[str, Any]:
        return {"args": {}, "attributes": {"identity": self.identity}}

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        # Trainer expects an entry for each callback that has a state, also in a checkpoint without one.
        state.stateful_callbacks.setdefault(type(self).__name__, self.state())
        # Trainer would go on logging and saving as often as the run did that the checkpoint is of.
        state.compute_steps(args, state.max_steps)


def run_identity(
    kind: type[Recipe], recipe: dict[str, Any], data_digest: str | None, *, processes: int = 1
) -> dict[str, Any]:
    """What makes a run that of ``recipe``, the values of a ``kind`` of recipe by key.

    ``data_digest`` is None for a stream, whose rows are not known beforehand.
    """
    rows = processes
    for key in kind.keys_that_change("step_rows"):
        rows *= recipe.get(key, 1)
    compared = kind.keys_that_change("result", "loss", "inputs", "machine")
    rounding = kind.keys_that_change("rounding")
    # Redacted, since it is written to disk; the same recipe always comes out the same.
    identity: dict[str, Any] = json.loads(
        json.dumps(
            {
                "recipe": redact({key: recipe[key] for key in compared if key in recipe}),
                "data": data_digest,
                "rows_per_step": rows,
                "processes": processes,
                "rounding": {key: recipe[key] for key in rounding if key in recipe},
            }
        )
    )
    return identity


def begin(
    training: TrainingConfig, identity: dict[str, Any], kind: type[Recipe] | None = None
) -> Path | None:
    """The checkpoint to go on from, or None; ``output_dir`` is ready for the run afterwards. ``kind``: of
    recipe, as in :func:`check_identity`.

    Raises UserError where the run cannot be continued; nothing in ``output_dir`` has changed then, except
    that half-written checkpoints are set aside.
    """
    checkpoint = find_checkpoint(training.output_dir, training.resume_from_checkpoint)
    if checkpoint is not None:
        check_identity(checkpoint, identity, force=training.force_resume, kind=kind)
    inside = checkpoint is not None and checkpoint.resolve().parent == Path(training.output_dir).resolve()
    if checkpoint is not None and inside:
        set_later_aside(checkpoint, training.output_dir)
    run_folder.prepare_output_dir(training.output_dir, resuming=inside)
    return checkpoint


def find_checkpoint(output_dir: str, wanted: str | None) -> Path | None:
    """The checkpoint folder that ``resume_from_checkpoint`` means.

    ``auto``: the newest complete one in ``output_dir``, or None where there is none yet; half-written and
    damaged ones are reported and set aside. A path: that folder. Raises UserError where it is not a complete
    one, or damaged.
    """
    if wanted is None:
        return None
    if wanted == "auto":
        checkpoints.set_aside_incomplete(output_dir)
        return checkpoints.newest_undamaged(output_dir)
    named = Path(wanted)
    missing = checkpoints.what_is_missing(named)
    if missing:
        raise UserError(
            f"resume_from_checkpoint: '{wanted}' is not a complete checkpoint: {missing}.{_another(named)}"
        )
    damage = what_is_damaged(named)
    if damage:
        raise UserError(f"resume_from_checkpoint: '{wanted}' is damaged: {damage}.{_another(named)}")
    return named


def set_later_aside(checkpoint: Path, output_dir: str) -> None:
    """Rename what the run would write over when it goes on from ``checkpoint`` of ``output_dir``."""
    checkpoints.set_aside_incomplete(output_dir)
    for folder in checkpoints.all_checkpoints(output_dir):
        if checkpoints.step_of(folder) > checkpoints.step_of(checkpoint):
            moved = checkpoints.set_aside(folder, checkpoints.LATER)
            logger.warning("%s lies after %s and is now called %s", folder, checkpoint.name, moved.name)


def _another(named: Path) -> str:
    others = [f for f in reversed(checkpoints.all_checkpoints(named.parent)) if f.name != named.name]
    whole = (f for f in others if not checkpoints.what_is_missing(f) and not what_is_damaged(f))
    other = next(whole, None)
    return f" The newest complete one beside it is {other}." if other else ""


def check_identity(
    checkpoint: Path, identity: dict[str, Any], *, force: bool, kind: type[Recipe] | None = None
) -> None:
    """Raise UserError where data or recipe are not those of the checkpoint; with ``force``, warn.

    ``kind``: of recipe, under whose names for its keys those of an older release are read.
    """
    saved = checkpoints.saved_identity(checkpoints.read_state(checkpoint))
    if saved and kind is not None:
        saved = {**saved, "recipe": kind.renamed(saved["recipe"])}
    if not saved:
        differences = ["it does not say which recipe and data it was trained on"]
    else:
        differences = _differences(saved, identity)
    _refuse(
        checkpoint,
        "belongs to another run: " + "; ".join(differences) if differences else "",
        "Continue it with its own recipe and data, start anew without resume_from_checkpoint",
        force=force,
    )


def check_randomness(
    checkpoint: Path, identity: dict[str, Any], model: torch.nn.Module, *, noise: bool, force: bool
) -> None:
    """Raise UserError where another number of processes, or a key that rounds differently, changes the run.

    The rows of a step are the same whatever the number of processes; random numbers in the forward pass are
    not, and neither are they for another cut into micro-batches. ``noise``: NEFTune is on. With ``force``,
    warn. A checkpoint whose processes each hold a part of it needs as many again.
    """
    saved = checkpoints.saved_identity(checkpoints.read_state(checkpoint))
    before, now = saved.get("processes"), identity["processes"]
    if before not in (None, now) and checkpoints.is_sharded(checkpoint):
        raise UserError(
            f"{checkpoint} holds the parts of {before} processes and cannot be continued by {now}. "
            f"Start {before} processes."
        )
    random_parts = (["neftune_noise_alpha"] if noise else []) + parts_that_draw_random_numbers(model)
    if not random_parts:
        return
    values = {"the number of processes": (before, now)}
    values |= {key: (_rounding(saved).get(key), value) for key, value in identity["rounding"].items()}
    changed = [
        f"{what} was {old} and is {new}" for what, (old, new) in values.items() if old not in (None, new)
    ]
    _refuse(
        checkpoint,
        f"cannot be continued exactly: {', '.join(changed)}, and {', '.join(random_parts)} would draw other "
        "random numbers"
        if changed
        else "",
        "Go back to the values it was saved with",
        force=force,
    )


def parts_that_draw_random_numbers(model: torch.nn.Module) -> list[str]:
    """Names of what makes a forward pass in training random: dropout modules and settings above zero."""
    found = {
        name.rpartition(".")[2] if "lora_dropout" not in name else "lora_dropout"
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.modules.dropout._DropoutNd) and module.p > 0
    }
    config = getattr(model, "config", None)
    settings = config.to_dict() if hasattr(config, "to_dict") else {}
    for key, value in settings.items():
        random_key = any(part in key for part in ("drop", "pdrop", "jitter"))
        if random_key and "classifier" not in key and isinstance(value, int | float) and value > 0:
            found.add(key)
    return sorted(found)


def _refuse(checkpoint: Path, problem: str, advice: str, *, force: bool) -> None:
    if not problem:
        return
    message = f"{checkpoint} {problem}"
    if not force:
        raise UserError(f"{message}. {advice}, or set force_resume: true to go on all the same.")
    logger.warning("%s (force_resume is set)", message)


def _rounding(saved: dict[str, Any]) -> dict[str, Any]:
    """Values of the keys that change results by rounding; older checkpoints have them in two other places."""
    budget = {"max_tokens_per_batch": saved.get("max_tokens_per_batch")}
    return {**saved.get("recipe", {}), **budget, **saved.get("rounding", {})}


def _same(old: Any, new: Any) -> bool:
    """Whether two values of a key are the same, entries of lists by the keys that both releases know."""
    if not isinstance(old, list) or not isinstance(new, list) or len(old) != len(new):
        return bool(old == new)
    return all(
        all(one[key] == other[key] for key in one.keys() & other.keys())
        if isinstance(one, dict) and isinstance(other, dict)
        else one == other
        for one, other in zip(old, new, strict=True)
    )


def _differences(saved: dict[str, Any], now: dict[str, Any]) -> list[str]:
    old, new = saved["recipe"], now["recipe"]
    differences = [
        f"{key} was {old[key]!r} and is {new[key]!r}"
        # A key that one side does not know came or went with a release, or no longer makes another run of it.
        for key in sorted(old.keys() & new.keys())
        if not _same(old[key], new[key])
    ]
    if saved.get("rows_per_step") not in (None, now["rows_per_step"]):
        differences.append(
            f"an optimizer step had {saved['rows_per_step']} rows and has {now['rows_per_step']} "
            "(per_device_train_batch_size × gradient_accumulation_steps × processes)"
        )
    if saved["data"] != now["data"]:
        differences.append("the training rows have changed")
    return differences
