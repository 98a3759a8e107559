"""What a replay begins with: weights and recipe, and what is other than when the rollout was recorded."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from hf_align.errors import UserError
from hf_align.rl.recipe import RlConfig
from hf_align.rl.replay.recorder import recipe_digest
from hf_align.rl.replay.recording import Recording, recorded_steps
from hf_align.runs import checkpoints
from hf_align.stages import recipe_class
from hf_align.training.run import Machine

COMMANDS = ("ppo", "grpo")
"""The commands whose runs are recorded."""


@dataclass(frozen=True)
class Base:
    """Weights after ``step`` rollouts: those of ``checkpoint``, or without one those of the start."""

    step: int
    checkpoint: Path | None


def find_base(folder: Path, step: int, resumed_from: str | None) -> tuple[Base | None, str]:
    """The newest weights from which recorded rollouts lead to ``step``; or None, and why there are none.

    ``resumed_from``: a checkpoint that the run went on from, which may lie in another folder.
    """
    found = checkpoints.all_checkpoints(folder)
    if resumed_from not in (None, "auto"):
        found.append(Path(str(resumed_from)))
    bases = [Base(0, None)]
    for checkpoint in found:
        if not checkpoints.what_is_missing(checkpoint):
            bases.append(Base(int(checkpoints.read_state(checkpoint)["global_step"]), checkpoint))
    recorded = set(recorded_steps(folder))
    why_not = ""
    for base in sorted(bases, key=lambda each: -each.step):
        if base.step >= step:
            continue
        missing = [between for between in range(base.step + 1, step) if between not in recorded]
        if not missing:
            return base, ""
        # Bases from before need the same rollouts and more.
        begin = "the start of training" if base.checkpoint is None else base.checkpoint.name
        why_not = why_not or (
            f"There are no weights to compute it from: the nearest that are kept are those of {begin}, and "
            f"of the rollouts from there on {missing[0]} is not recorded. A higher save_total_limit keeps "
            "more checkpoints, a higher record_limit more rollouts."
        )
    return None, why_not


def config_of(folder: Path, command: str, recipe: Mapping[str, Any], machine: Machine) -> RlConfig:
    """The recipe of a run of ``command``, one of ``COMMANDS``, for this place and machine."""
    try:
        config: RlConfig = recipe_class(command).from_flat(recipe)
    except UserError as error:
        raise UserError(f"{folder / 'run.json'}: its recipe cannot be read: {error}") from error
    training = dataclasses.replace(
        config.training,
        output_dir=str(folder),
        use_cpu=machine.use_cpu,
        precision=machine.precision,
        report_to=[],
        resume_from_checkpoint=None,
        force_resume=False,
    )
    return dataclasses.replace(config, training=training)


def notes_on(
    recording: Recording, config: RlConfig, recipe: Mapping[str, Any], machine: Machine
) -> list[str]:
    """What is other than when the rollout was recorded, and can change bits or more. ``recipe``: by key, as
    run.json has it; ``config``: what was read from it."""
    then = recording.circumstances
    notes = []
    if recipe_digest(type(config), recipe) != then.recipe:
        notes.append(
            "The recipe in run.json is not the one that this rollout was recorded under (the run was resumed "
            "with force_resume, or with other keys of speed and memory): metrics differ where the change "
            "matters, with the latter by rounding alone."
        )
    if then.processes > 1:
        notes.append(
            f"The run had {then.processes} processes, this is one: gradients are added up in another order, "
            "so that last digits may differ."
        )
    if then.torch != torch.__version__:
        notes.append(f"Recorded with PyTorch {then.torch}, replayed with {torch.__version__}.")
    if (then.device == "cpu") != machine.use_cpu:
        notes.append("Recorded on an accelerator, replayed on a CPU: last digits differ.")
    elif not machine.use_cpu:
        notes.append("On an accelerator sums are not always added up in the same order.")
    return notes
