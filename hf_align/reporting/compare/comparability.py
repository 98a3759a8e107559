"""Which metrics of several runs may be compared, and which of them is better.

More or less has to be plainly better, and the runs must have measured the same thing: held-out metrics on the
same rows, losses and rewards of the same loss, speed on the same machine.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from hf_align.config.fields import Change
from hf_align.reporting.compare.runs import ComparedRun
from hf_align.runs import formatting
from hf_align.runs.metrics import rows_with, series
from hf_align.stages import STAGES, recipe_class

_LOWER = re.compile(r"(?:^|[_/])(?:loss|perplexity|bytes|seconds|runtime|error|errors|kl|toxicity)(?:$|[_/])")
_HIGHER = re.compile(
    r"(?:^|[_/])(?:accuracy|accuracies|exact_match|match|reward|rewards|margins?|per_second|score|f1|win_rate)"
    r"(?:$|[_/])"
)
# What counts is the distance between the two, and the distance from the reference is a price, not an aim.
_NEITHER = re.compile(r"rewards/(?:chosen|rejected)$|(?:^|_)kl$")
# Their unit is the loss's own: IPO begins at 25 where DPO begins at 0.69, and beta scales rewards.
_OF_THE_LOSS = re.compile(r"(?:^|_)loss(?:$|_)|rewards/(?!accuracies)")
_OF_THE_MACHINE = ("wall_time_seconds", "tokens_per_second", "peak_memory_bytes")
_UNITS = ("target_tokens", "prompts")


def keys_that_change(runs: Sequence[ComparedRun], *changes: Change) -> list[str]:
    """The keys that change one of ``changes`` in the stages of the runs, or in any stage if none is known."""
    commands = {run.record.command for run in runs} & STAGES.keys() or set(STAGES)
    return sorted({key for command in commands for key in recipe_class(command).keys_that_change(*changes)})


def direction(key: str) -> int:
    """-1: less is better, 1: more is better, 0: neither, or unknown."""
    if key.endswith("_before") or key in ("steps", "trainable_parameters") or _NEITHER.search(key):
        return 0
    if _HIGHER.search(key):
        return 1
    return -1 if _LOWER.search(key) else 0


def comparable(runs: Sequence[ComparedRun], key: str) -> bool:
    """Whether the runs measured the same thing under this key."""
    if key in _OF_THE_MACHINE:
        return _same_machine(runs)
    if _OF_THE_LOSS.search(key) and not _same_loss(runs):
        return False
    return _same_stage(runs) and (not key.startswith("eval_") or _same_evaluation(runs))


def why_unmarked(runs: Sequence[ComparedRun]) -> list[str]:
    """Notes on what cannot be compared."""
    notes = []
    if not _same_stage(runs):
        notes.append(
            "The runs are of different stages: their losses and rewards do not measure the same thing."
        )
    elif not _same_evaluation(runs):
        notes.append("The runs were evaluated on different rows: their held-out metrics cannot be compared.")
    if _same_stage(runs) and not _same_loss(runs):
        notes.append(
            "The runs had different losses: losses and rewards do not measure the same thing, but the shares "
            "of pairs in the right order do."
        )
    if not _same_machine(runs):
        notes.append("The runs were made on different machines: speed and memory cannot be compared.")
    return notes


def final_metric(run: ComparedRun, key: str) -> float | None:
    """The metric at the end of a run; of an evaluation, if need be, the last that was logged."""
    value = formatting.number(run.record.final_metrics.get(key))
    if value is not None or not key.startswith("eval_"):
        return value
    curve = series(rows_with(run.log.rows, key), key)
    # What was measured before the first step says nothing about the result.
    return curve.values[-1] if curve.steps and curve.steps[-1] > 0 else None


def _same_stage(runs: Sequence[ComparedRun]) -> bool:
    return len({run.record.command for run in runs}) == 1


def _same_loss(runs: Sequence[ComparedRun]) -> bool:
    recipes = [run.recipe for run in runs if run.recipe]
    keys = keys_that_change(runs, "loss")
    return len({formatting.plain([recipe.get(key) for key in keys]) for recipe in recipes}) <= 1


def _same_machine(runs: Sequence[ComparedRun]) -> bool:
    machines = [run.record.machine for run in runs]
    keys = ("cpu", "cores", "accelerator")
    return len({formatting.plain([one.get(key) for key in keys]) for one in machines}) == 1


def _same_evaluation(runs: Sequence[ComparedRun]) -> bool:
    """Whether held-out metrics are of the same rows, as far as the runs can tell."""
    counts = {tuple(final_metric(run, f"eval_{unit}") for unit in _UNITS) for run in runs}
    keys = ("eval_datasets", "eval_split_size", "train_on", "chat_template_path")
    recipes = {formatting.plain([run.recipe.get(key) for key in keys]) for run in runs if run.recipe}
    return len(counts - {(None,) * len(_UNITS)}) <= 1 and len(recipes) <= 1
